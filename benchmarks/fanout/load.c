/* The load client: one process, plain sockets and epoll, so that it is faster than what it loads.
 *
 *     load PORT PATH [--greet TEXT EXPECTED]... [--ping TEXT ANSWER] [--publish BEFORE AFTER]
 *
 * Every connection is upgraded to a websocket, and greets: it sends each TEXT (none if empty) and
 * waits for a message that contains EXPECTED. Connection 0 publishes: a message of BEFORE, 128
 * bytes of JSON and AFTER, where a '$' in BEFORE becomes a number that is used once. All
 * connections hear it. The JSON holds '@' and twelve digits, which count up; every connection
 * checks that it hears each number once and in order.
 *
 * Commands are read from standard input, and each is answered with one line of JSON:
 *
 *     connect N            until all are upgraded and have greeted, 32 at a time
 *     flood WINDOW S       for S seconds, keep WINDOW publications in flight; one is in flight
 *                          until every connection has it; the client does not sleep meanwhile
 *     pace RATE COUNT      COUNT publications, RATE a second, whatever became of those before
 *     drain WINDOW COUNT   COUNT times: publish WINDOW, sleep until the server has sent all, and
 *                          time the receiving alone: what the client itself can do
 *     close                close all connections
 *
 * Between commands connections are read, and pings answered. The program ends with its input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENT_BYTES 128
#define RING 8192        /* publications whose ends are told apart; more are never in flight */
#define AT_ONCE 32       /* connections under way */
#define AREA (1 << 19)
#define PATIENCE 20.0    /* seconds for what is still missing when a command should end */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="               /* the example of RFC 6455, section 1.3 */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum { CONNECTING = -2, UPGRADING = -1 };

struct connection {
    int fd;
    int step;               /* how many greetings are done, or one of the above */
    uint64_t next;          /* the number that must come next */
    size_t kept, room;      /* bytes of a frame that has not arrived whole */
    unsigned char *rest;
};

static struct connection *connections;
static int count, opened, ready, steps, epoll;
static const char *port, *path, *greetings[8], *expected[8];
static const char *ping, *answer, *before = "", *after = "";
static unsigned char area[AREA];

static uint64_t published, completed, deliveries, faults, command_ids;
static uint32_t left[RING];
static double sent_at[RING], *taken, last_receive;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec
        + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void fail(const char *format, ...)
{
    char text[400];
    va_list parts;
    va_start(parts, format);
    vsnprintf(text, sizeof text, format, parts);
    va_end(parts);
    for (char *c = text; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = '\'';
    printf("{\"error\": \"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

static void send_all(int fd, const void *data, size_t size)
{
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n > 0) {
            data = (const char *)data + n;
            size -= n;
        } else if (errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            if (poll(&wait, 1, (int)(PATIENCE * 1000)) == 0)
                fail("the server does not read");
        } else if (errno != EINTR) {
            fail("sending: %s", strerror(errno));
        }
    }
}

/* Write a masked frame; the mask is zero, which a server must treat as any other. */
static size_t frame(unsigned char *to, int opcode, const void *payload, size_t size)
{
    size_t head = 2;
    to[0] = 0x80 | opcode;
    if (size < 126) {
        to[1] = 0x80 | size;
    } else {
        to[1] = 0x80 | 126;
        to[2] = size >> 8;
        to[3] = size;
        head = 4;
    }
    memset(to + head, 0, 4);
    memcpy(to + head + 4, payload, size);
    return head + 4 + size;
}

static void send_text(int fd, const char *text)
{
    unsigned char bytes[2048];
    if (strlen(text) > sizeof bytes - 8)
        fail("a greeting is too long");
    send_all(fd, bytes, frame(bytes, 1, text, strlen(text)));
}

/* Publish: all frames that are due at one moment leave in one send. */
static void publish(int how_many)
{
    static unsigned char bytes[64 * 1024];
    size_t size = 0;
    for (; how_many > 0; how_many--) {
        char text[1024], *end = text;
        uint64_t number = published++;
        for (const char *c = before; *c; c++) {
            if (*c == '$')
                end += sprintf(end, "%llu", (unsigned long long)(1000 + command_ids++));
            else
                *end++ = *c;
        }
        int n = sprintf(end, "{\"number\":\"@%012llu\",\"text\":\"", (unsigned long long)number);
        memset(end + n, 'x', EVENT_BYTES - 2 - n);
        memcpy(end + EVENT_BYTES - 2, "\"}", 2);
        end += EVENT_BYTES;
        end += sprintf(end, "%s", after);
        if (size + (end - text) + 8 > sizeof bytes) {
            send_all(connections[0].fd, bytes, size);
            size = 0;
        }
        left[number % RING] = count;
        sent_at[number % RING] = now();
        size += frame(bytes + size, 1, text, end - text);
    }
    send_all(connections[0].fd, bytes, size);
}

static void hear_number(struct connection *c, const unsigned char *digits)
{
    uint64_t number = 0;
    for (int i = 0; i < 12; i++)
        number = number * 10 + (digits[i] - '0');
    if (number >= published || number + RING <= published)
        fail("connection %d: number %llu was not published", (int)(c - connections),
             (unsigned long long)number);
    if (number != c->next)
        faults++;
    c->next = number + 1;
    deliveries++;
    if (--left[number % RING] == 0) {
        last_receive = now();
        if (taken)
            taken[completed] = last_receive - sent_at[number % RING];
        completed++;
    }
}

static void greet(struct connection *c)
{
    if (c->step == steps) {
        ready++;
        c->next = published;
    } else if (*greetings[c->step]) {
        send_text(c->fd, greetings[c->step]);
    }
}

static void hear_text(struct connection *c, const unsigned char *text, size_t size)
{
    if (ping) {  /* a message of its own, or a line of one */
        size_t n = strlen(ping);
        const unsigned char *line = text, *end = text + size;
        while (line < end) {
            const unsigned char *stop = memchr(line, '\n', end - line);
            if (!stop)
                stop = end;
            if ((size_t)(stop - line) == n && memcmp(line, ping, n) == 0)
                send_text(c->fd, answer);
            line = stop + 1;
        }
    }
    if (c->step < steps) {
        if (memmem(text, size, expected[c->step], strlen(expected[c->step]))) {
            c->step++;
            greet(c);
        } else if (memmem(text, size, "\"error\"", 7)) {
            fail("refused: %.*s", (int)size, text);
        }
        return;
    }
    const unsigned char *end = text + size;
    while ((text = memchr(text, '@', end - text))) {
        if (end - text < 13)
            fail("a number is cut");
        hear_number(c, text + 1);
        text += 13;
    }
}

/* Take what is whole; say how many bytes that is. */
static size_t take(struct connection *c, unsigned char *data, size_t size)
{
    size_t used = 0;
    if (c->step == UPGRADING) {
        unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end)
            return 0;
        if (memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, end - data, ACCEPT, 28))
            fail("no upgrade: %.*s", (int)(end - data), data);
        used = end + 4 - data;
        c->step = 0;
        greet(c);
    }
    for (;;) {
        unsigned char *at = data + used;
        size_t have = size - used, head = 2, length;
        if (have < 2)
            return used;
        length = at[1] & 0x7f;
        if (length == 126) {
            head = 4;
            if (have < head)
                return used;
            length = at[2] << 8 | at[3];
        } else if (length == 127) {
            head = 10;
            if (have < head)
                return used;
            length = 0;
            for (int i = 2; i < 10; i++)
                length = length << 8 | at[i];
        }
        if (at[0] & 0x70 || at[1] & 0x80)
            fail("a frame is compressed or masked");
        if (length > AREA / 2)
            fail("a frame of %zu bytes", length);
        if (have < head + length)
            return used;
        int opcode = at[0] & 0x0f;
        if (opcode == 8)
            fail("closed by the server: %d", length > 1 ? at[head] << 8 | at[head + 1] : 0);
        if (opcode == 9) {
            unsigned char bytes[256];
            send_all(c->fd, bytes, frame(bytes, 10, at + head, length));
        } else if (opcode < 3) {
            hear_text(c, at + head, length);
        }
        used += head + length;
    }
}

/* Read what there is; say whether there may be more, which epoll would not tell again. */
static int readable(struct connection *c)
{
    size_t most = AREA / 2;
    if (c->kept)
        memcpy(area, c->rest, c->kept);
    ssize_t n = recv(c->fd, area + c->kept, most, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (n <= 0)
        fail("the server closed connection %d: %s", (int)(c - connections),
             n ? strerror(errno) : "end of stream");
    size_t size = c->kept + n, used = take(c, area, size);
    c->kept = size - used;
    if (c->kept > c->room) {
        c->room = c->kept * 2;
        c->rest = realloc(c->rest, c->room);
    }
    if (c->kept)
        memcpy(c->rest, area + used, c->kept);
    return (size_t)n == most;
}

static void watch(int op, int fd, int events, int number)
{
    struct epoll_event e = {.events = events, .data.u32 = number};
    if (epoll_ctl(epoll, op, fd, &e))
        fail("epoll_ctl: %s", strerror(errno));
}

static void open_one(void)
{
    struct connection *c = &connections[opened];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(c, 0, sizeof *c);
    c->step = CONNECTING;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    int yes = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(EPOLL_CTL_ADD, c->fd, EPOLLOUT, opened + 1);
    opened++;
}

static void upgrade(struct connection *c, int number)
{
    char text[512];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        fail("connect: %s", strerror(error));
    c->step = UPGRADING;
    watch(EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLET, number);
    int n = snprintf(text, sizeof text,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n", path, port);
    send_all(c->fd, text, n);
}

/* Wait for at most so many milliseconds (-1: for ever) and handle what comes; say whether a
 * command can be read. */
static int turn(int milliseconds)
{
    static struct epoll_event events[512];
    int command = 0, n = epoll_wait(epoll, events, 512, milliseconds);
    for (int i = 0; i < n; i++) {
        int number = events[i].data.u32;
        if (!number) {
            command = 1;
            continue;
        }
        struct connection *c = &connections[number - 1];
        if (c->step == CONNECTING)
            upgrade(c, number);
        else
            while (readable(c))
                continue;
    }
    return command;
}

/* Begin to count. Every other event is acknowledged at most: acknowledging costs the kernel more
 * than receiving, and it forgets that wish after a pause. */
static void begin(void)
{
    for (int i = 0, no = 0; i < opened; i++)
        setsockopt(connections[i].fd, IPPROTO_TCP, TCP_QUICKACK, &no, sizeof no);
    deliveries = faults = completed = 0;
    last_receive = 0;
}

static void missing(const char *what)
{
    fail("%s: %llu publications were not received by everyone within %g s", what,
         (unsigned long long)(published - completed), PATIENCE);
}

static void do_connect(int how_many)
{
    double start = now(), used = cpu();
    count = how_many;
    connections = calloc(count, sizeof *connections);
    opened = ready = 0;
    while (ready < count) {
        while (opened < count && opened - ready < AT_ONCE)
            open_one();
        turn(1000);
        if (now() - start > PATIENCE + count / 100.0)
            fail("only %d of %d connected", ready, count);
    }
    printf("{\"connected\": %d, \"seconds\": %.6f, \"cpu\": %.6f}\n", count, now() - start,
           cpu() - used);
}

static void do_flood(int window, double seconds)
{
    begin();
    uint64_t first = published;
    double start = now(), used = cpu(), end = start + seconds, give_up = end + PATIENCE;
    publish(window);
    while (published - first > completed) {
        turn(0);
        double at = now();
        int free = window - (int)(published - first - completed);
        if (free > 0 && at < end)
            publish(free);
        else if (at > give_up)
            missing("flood");
    }
    printf("{\"published\": %llu, \"deliveries\": %llu, \"seconds\": %.6f, \"cpu\": %.6f, "
           "\"faults\": %llu}\n", (unsigned long long)completed, (unsigned long long)deliveries,
           last_receive - start, cpu() - used, (unsigned long long)faults);
}

static void do_drain(int window, int times)
{
    begin();
    double took = 0, used = cpu();
    for (int i = 0; i < times; i++) {
        struct timespec pause = {.tv_nsec = 5000000L + 20000L * count};
        uint64_t goal = completed + window;
        publish(window);
        nanosleep(&pause, NULL);
        double start = now();
        while (completed < goal) {
            turn(0);
            if (now() > start + PATIENCE)
                missing("drain");
        }
        took += now() - start;
    }
    printf("{\"deliveries\": %llu, \"seconds\": %.6f, \"cpu\": %.6f, \"faults\": %llu}\n",
           (unsigned long long)deliveries, took, cpu() - used, (unsigned long long)faults);
}

static void do_pace(double rate, int how_many)
{
    begin();
    taken = calloc(how_many, sizeof *taken);
    uint64_t first = published;
    double start = now(), used = cpu();
    for (;;) {
        double at = now();
        int sent = (int)(published - first);
        int due = (int)((at - start) * rate) + 1;
        if (due > how_many)
            due = how_many;
        if (due > sent) {
            if (due - completed >= RING)
                missing("pace");
            publish(due - sent);
            continue;
        }
        if ((int)completed == how_many)
            break;
        if (at > start + how_many / rate + PATIENCE)
            missing("pace");
        double wait = sent < how_many ? start + sent / rate - at : 0.1;
        turn(wait > 0 ? (int)(wait * 1000) + 1 : 0);
    }
    printf("{\"published\": %d, \"deliveries\": %llu, \"seconds\": %.6f, \"cpu\": %.6f, "
           "\"faults\": %llu, \"taken\": [", how_many, (unsigned long long)deliveries,
           now() - start, cpu() - used, (unsigned long long)faults);
    for (int i = 0; i < how_many; i++)
        printf("%s%.6f", i ? ", " : "", taken[i]);
    printf("]}\n");
    free(taken);
    taken = NULL;
}

static void do_close(void)
{
    for (int i = 0; i < count; i++) {
        close(connections[i].fd);
        free(connections[i].rest);
    }
    free(connections);
    connections = NULL;
    printf("{\"closed\": %d}\n", count);
    count = 0;
}

static void command(void)
{
    char line[200];
    double a = 0, b = 0;
    ssize_t n = read(0, line, sizeof line - 1);
    if (n <= 0)
        exit(0);
    line[n] = 0;
    if (sscanf(line, "connect %lf", &a) == 1 && !count)
        do_connect((int)a);
    else if (sscanf(line, "flood %lf %lf", &a, &b) == 2 && count)
        do_flood((int)a, b);
    else if (sscanf(line, "pace %lf %lf", &a, &b) == 2 && count)
        do_pace(a, (int)b);
    else if (sscanf(line, "drain %lf %lf", &a, &b) == 2 && count)
        do_drain((int)a, (int)b);
    else if (!strncmp(line, "close", 5) && count)
        do_close();
    else
        fail("what? %s", line);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc < 3)
        fail("load PORT PATH ...");
    port = argv[1];
    path = argv[2];
    for (int i = 3; i < argc; i += 3) {
        if (i + 2 >= argc)
            fail("%s takes two words", argv[i]);
        if (!strcmp(argv[i], "--greet") && steps < 8) {
            greetings[steps] = argv[i + 1];
            expected[steps++] = argv[i + 2];
        } else if (!strcmp(argv[i], "--ping")) {
            ping = argv[i + 1];
            answer = argv[i + 2];
        } else if (!strcmp(argv[i], "--publish") && strlen(argv[i + 1]) + strlen(argv[i + 2]) < 500) {
            before = argv[i + 1];
            after = argv[i + 2];
        } else {
            fail("what? %s", argv[i]);
        }
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, 0, EPOLLIN, 0);
    for (;;)
        if (turn(-1))
            command();
}
