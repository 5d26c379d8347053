"""Signatures of tokens: who signed them, with the one algorithm that a key is for."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.server.auth import make_token
from oni.server.auth._jwt import (
    MAX_TOKEN,
    BadTokenError,
    load_public_key,
    load_secret,
    sign,
    signed_by,
)
from tests.server.auth.signing import SECRET, pair, segment, with_header

OTHER = "another secret that is long enough, too"


class SignatureTests(SynchronousTestCase):
    """Tests of :func:`oni.server.auth._jwt.signed_by`."""

    def refused(self, token: str, *keys: object) -> None:
        """Expect that a token proves nothing."""
        self.assertRaises(BadTokenError, signed_by, token, keys or (load_secret(SECRET),))

    def test_each_algorithm(self) -> None:
        """A token is proven by the secret, or by the public key of who signed it."""
        keys = [load_secret(SECRET)]
        keys += [load_public_key(name, pair(name)[1]) for name in ("RS256", "ES256")]
        for algorithm, key in (
            ("HS256", SECRET),
            ("RS256", pair("RS256")[0]),
            ("ES256", pair("ES256")[0]),
        ):
            token = sign(b'{"sub":"bob"}', key, algorithm)
            self.assertEqual(signed_by(token, keys), b'{"sub":"bob"}')
            self.refused(token, *[key for key in keys if key.algorithm != algorithm])

    def test_wrong_signatures(self) -> None:
        """A signature that is cut, longer, empty or of another key is none, whatever the kind."""
        for algorithm in ("RS256", "ES256"):
            key = load_public_key(algorithm, pair(algorithm)[1])
            token = sign(b"{}", pair(algorithm)[0], algorithm)
            signed, _, signature = token.rpartition(".")
            for wrong in ("", signature[:-4], signature + "AAAA", "A" * len(signature), "AAAA"):
                self.refused(f"{signed}.{wrong}", key)

    def test_another_secret(self) -> None:
        """Who does not know the secret cannot make a token."""
        self.refused(make_token(OTHER))

    def test_no_keys(self) -> None:
        """Without keys nothing is proven."""
        self.assertRaises(BadTokenError, signed_by, make_token(SECRET), ())

    def test_changed_claims(self) -> None:
        """A token whose claims were changed proves nothing."""
        head, _, signature = make_token(SECRET, "bob").split(".")
        self.refused(f"{head}.{segment({'sub': 'alice'})}.{signature}")

    def test_none(self) -> None:
        """No token is taken without a signature, whatever it calls its algorithm."""
        claims = segment({"sub": "bob"})
        for name in ("none", "None", "NONE", "nOnE", ""):
            self.refused(f"{segment({'alg': name})}.{claims}.")
            self.refused(with_header(make_token(SECRET), alg=name, typ="JWT"))

    def test_public_key_as_secret(self) -> None:
        """A public key is no secret: a token that is signed with it by HS256 proves nothing."""
        for algorithm in ("RS256", "ES256"):
            public = pair(algorithm)[1]
            signed = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment({'sub': 'root'})}"
            digest = hmac.new(public.encode(), signed.encode(), hashlib.sha256).digest()
            token = f"{signed}.{segment(digest)}"
            self.refused(token, load_public_key(algorithm, public))
            self.refused(token, load_public_key(algorithm, public), load_secret(SECRET))
            # Nor does it help to say that it is the other algorithm after all.
            self.refused(with_header(token, alg=algorithm), load_public_key(algorithm, public))

    def test_other_algorithms(self) -> None:
        """A token of an algorithm that no key is for proves nothing, the secret right or not."""
        claims = segment({"sub": "bob"})
        for name, hash_ in (("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
            signed = f"{segment({'alg': name})}.{claims}"
            digest = hmac.new(SECRET.encode(), signed.encode(), hash_).digest()
            self.refused(f"{signed}.{segment(digest)}")

    def test_kid(self) -> None:
        """A token that names its key is proven by that one; who names none, by any."""
        old, new = load_public_key("ES256", pair("ES256")[1], "old"), load_secret(SECRET)
        private = pair("ES256")[0]
        signed_by(sign(b"{}", private, "ES256", "old"), [old, new])
        signed_by(sign(b"{}", private, "ES256"), [old, new])
        self.refused(sign(b"{}", private, "ES256", "new"), old, new)
        # A key without a name is for every name that no key has.
        signed_by(sign(b"{}", SECRET, "HS256", "anything"), [old, new])

    def test_kid_chooses_no_algorithm(self) -> None:
        """The name of a key for one algorithm lets no token of another one in."""
        key = load_public_key("RS256", pair("RS256")[1], "rsa")
        self.refused(sign(b"{}", SECRET, "HS256", "rsa"), key)

    def test_key_in_token(self) -> None:
        """A key that a token brings along is not looked at."""
        private, public = pair("ES256")
        head = segment({"alg": "ES256", "jwk": {"kty": "EC"}, "x5c": [public], "jku": "http://x"})
        self.refused(".".join([head, *sign(b"{}", private, "ES256").split(".")[1:]]))

    def test_extensions(self) -> None:
        """A token that demands an extension is refused (RFC 7515, 4.1.11)."""
        signed = f"{segment({'alg': 'HS256', 'crit': ['b64'], 'b64': False})}."
        digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
        self.refused(f"{signed}.{segment(digest)}")

    def test_too_long(self) -> None:
        """A token that is too long is refused unread."""
        self.refused(make_token(SECRET, "b" * MAX_TOKEN))

    def test_deep_header(self) -> None:
        """A header that nests deep is refused without a word from the interpreter."""
        for text in (b"[" * 9000, b'{"alg":' * 1000, b'{"alg":' + b"9" * 9000 + b"}"):
            self.refused(f"{segment(text)}.{segment({})}.{segment(b'x')}")

    @given(st.text() | st.text("ey.-_=AB{}"))
    def test_anything(self, token: str) -> None:
        """Whatever comes instead of a token proves nothing, and breaks nothing."""
        self.refused(token)

    @given(st.data())
    def test_any_change(self, data: st.DataObject) -> None:
        """A token of which any character was changed proves nothing, or says the same."""
        token = make_token(SECRET, "bob", now=0)
        place = data.draw(st.integers(0, len(token) - 1))
        changed = token[:place] + data.draw(st.characters()) + token[place + 1 :]
        try:
            found = signed_by(changed, [load_secret(SECRET)])
        except BadTokenError:
            return
        self.assertEqual(found, signed_by(token, [load_secret(SECRET)]))


class KeyTests(SynchronousTestCase):
    """Tests of keys."""

    def test_weak(self) -> None:
        """What is too weak, private or for another algorithm is no key, and is not repeated."""
        for algorithm, pem, reason in (
            ("RS256", pair("RSA-1024")[1], "2048 bits"),
            ("ES256", pair("P-384")[1], "no key for ES256"),
            ("RS256", pair("ES256")[1], "no key for RS256"),
            ("ES256", pair("RS256")[1], "no key for ES256"),
            ("RS256", pair("RS256")[0], "private"),
            ("ES256", "-----BEGIN PUBLIC KEY-----\nsecretsecret\n", "no key"),
            ("ES256", SECRET, "no key"),
        ):
            error = self.assertRaises(ValueError, load_public_key, algorithm, pem)
            self.assertIn(reason, str(error))
            self.assertNotIn("secret", str(error))

    def test_secret(self) -> None:
        """A secret has 32 characters or more, and is no key of another kind."""
        for secret in ("", "x" * 31, pair("RS256")[1]):
            self.assertRaises(ValueError, load_secret, secret)
        load_secret("x" * 32)

    def test_sign(self) -> None:
        """Tokens are signed with a fitting, private key."""
        for key, algorithm in (
            ("short", "HS256"),
            (pair("ES256")[1], "ES256"),
            (pair("ES256")[0], "RS256"),
            (pair("ES256")[0], "HS256"),
            (SECRET, "none"),
            (SECRET, "HS512"),
        ):
            self.assertRaises(ValueError, sign, b"{}", key, algorithm)

    def test_repr(self) -> None:
        """A key does not show itself."""
        self.assertNotIn(SECRET, repr(load_secret(SECRET)))
