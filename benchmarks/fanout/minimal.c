/* The least server that could do it, to see what the load client can take.
 *
 *     minimal PORT
 *
 * It knows the load client: its key, its frames (masked with zero, shorter than 64 KiB). What
 * arrives in one turn leaves joined, with one blocking send for each connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

#define MOST 20000

struct connection {
    int upgraded;
    size_t kept;
    unsigned char rest[2048];
};

static const char accepted[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static struct connection *by_fd[MOST + 64];
static int fds[MOST], count;
static unsigned char batch[1 << 18];
static size_t batched;

static void forget(int fd)
{
    for (int i = 0; i < count; i++)
        if (fds[i] == fd)
            fds[i--] = fds[--count];
    free(by_fd[fd]);
    by_fd[fd] = NULL;
    close(fd);
}

static void send_batch(void)
{
    for (int i = 0; i < count; i++)
        if (by_fd[fds[i]]->upgraded)
            send(fds[i], batch, batched, MSG_NOSIGNAL);
    batched = 0;
}

static void readable(int fd)
{
    static unsigned char data[1 << 16];
    struct connection *c = by_fd[fd];
    memcpy(data, c->rest, c->kept);
    ssize_t n = recv(fd, data + c->kept, sizeof data - c->kept, MSG_DONTWAIT);
    if (n <= 0) {
        forget(fd);
        return;
    }
    size_t size = c->kept + n, used = 0;
    if (!c->upgraded) {
        unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
        if (end) {
            used = end + 4 - data;
            c->upgraded = 1;
            send(fd, accepted, sizeof accepted - 1, MSG_NOSIGNAL);
        }
    }
    while (c->upgraded && size - used >= 2) {
        unsigned char *at = data + used;
        size_t head = 6, length = at[1] & 0x7f;
        if (length == 126) {
            head = 8;
            if (size - used < head)
                break;
            length = at[2] << 8 | at[3];
        }
        if (size - used < head + length)
            break;
        if (batched + length + 4 > sizeof batch)
            send_batch();
        batch[batched++] = 0x81;
        if (length < 126) {
            batch[batched++] = length;
        } else {
            batch[batched++] = 126;
            batch[batched++] = length >> 8;
            batch[batched++] = length;
        }
        memcpy(batch + batched, at + head, length);
        batched += length;
        used += head + length;
    }
    c->kept = size - used;
    if (c->kept > sizeof c->rest)
        forget(fd);
    else
        memcpy(c->rest, data + used, c->kept);
}

int main(int argc, char **argv)
{
    static struct epoll_event events[512];
    struct sockaddr_in at = {.sin_family = AF_INET};
    int yes = 1, epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    at.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024))
        return 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                readable(fd);
                continue;
            }
            fd = accept(listener, NULL, NULL);
            if (fd < 0 || fd >= MOST + 64 || count >= MOST)
                return 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            by_fd[fd] = calloc(1, sizeof *by_fd[fd]);
            fds[count++] = fd;
            e.data.fd = fd;
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
        }
        if (batched)
            send_batch();
    }
}
