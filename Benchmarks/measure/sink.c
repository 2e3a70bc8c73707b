/* A destination that does nothing, so that only the sender is measured: one thread, epoll, HTTP/1.1 with keep-alive.
 *
 *   cc -O2 -o sink sink.c && ./sink      prints its base URL as its first line
 *
 * POST /...     200, empty; counted, with the moments of the first and the last one
 * POST /dead    never answered
 * GET /stats    {"requests":N,"bytes":N,"first_ns":N,"last_ns":N,"dead":N} by CLOCK_MONOTONIC
 * GET /reset    the same, and counts from 0 again
 *
 * It reads no more of a request than its length and its path. A sender that pipelines is answered in order.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, CONNECTIONS_MAX = 65536 };

struct connection {
    char head[HEAD_MAX]; /* what has come of a request's head */
    size_t filled;
    uint64_t body_left; /* of the body that is being passed over */
};

static struct connection *connections[CONNECTIONS_MAX];
static uint64_t requests, bytes, first_ns, last_ns, dead;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void close_connection(int descriptor) {
    free(connections[descriptor]);
    connections[descriptor] = NULL;
    close(descriptor);
}

/* Answers are a few hundred bytes: the socket's buffer has room for them, or the sender does not read and is let go. */
static int answer(int descriptor, const char *text, size_t length) {
    return send(descriptor, text, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length ? 0 : -1;
}

static int answer_stats(int descriptor) {
    char body[256], text[512];
    int length = snprintf(body, sizeof body,
        "{\"requests\":%llu,\"bytes\":%llu,\"first_ns\":%llu,\"last_ns\":%llu,\"dead\":%llu}", (unsigned long long)requests,
        (unsigned long long)bytes, (unsigned long long)first_ns, (unsigned long long)last_ns, (unsigned long long)dead);
    length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", length, body);
    return answer(descriptor, text, (size_t)length);
}

/* One whole head of `length` bytes. Returns -1 to close. */
static int take_head(int descriptor, struct connection *connection, size_t length) {
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    char *head = connection->head;
    head[length - 1] = 0;
    uint64_t body = 0;
    char *field = strcasestr(head, "\ncontent-length:");
    if (field != NULL) body = strtoull(field + 16, NULL, 10);
    if (strcasestr(head, "\ntransfer-encoding:") != NULL) return -1;
    connection->body_left = body;
    if (strncmp(head, "GET /stats", 10) == 0) return answer_stats(descriptor);
    if (strncmp(head, "GET /reset", 10) == 0) {
        int result = answer_stats(descriptor);
        requests = bytes = first_ns = last_ns = dead = 0;
        return result;
    }
    if (strncmp(head, "POST /dead", 10) == 0) {
        dead++;
        return 0;
    }
    last_ns = now();
    if (requests == 0) first_ns = last_ns;
    requests++;
    bytes += body;
    return answer(descriptor, ok, sizeof ok - 1);
}

/* Takes what has come; returns -1 to close. */
static int take(int descriptor, struct connection *connection, const char *data, size_t count) {
    while (count > 0) {
        if (connection->body_left > 0) {
            size_t part = count < connection->body_left ? count : (size_t)connection->body_left;
            connection->body_left -= part;
            data += part;
            count -= part;
            continue;
        }
        size_t before = connection->filled;
        size_t part = count < HEAD_MAX - before ? count : HEAD_MAX - before;
        if (part == 0) return -1; /* a head that long is none of ours */
        memcpy(connection->head + before, data, part);
        connection->filled += part;
        size_t start = before > 3 ? before - 3 : 0;
        char *end = memmem(connection->head + start, connection->filled - start, "\r\n\r\n", 4);
        if (end == NULL) {
            data += part;
            count -= part;
            continue;
        }
        size_t length = (size_t)(end - connection->head) + 4;
        data += length - before;
        count -= length - before;
        connection->filled = 0;
        if (take_head(descriptor, connection, length) < 0) return -1;
    }
    return 0;
}

int main(void) {
    static char buffer[1 << 18];
    struct rlimit limit = {CONNECTIONS_MAX, CONNECTIONS_MAX};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < CONNECTIONS_MAX ? limit.rlim_max : CONNECTIONS_MAX;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        perror("sink");
        return 1;
    }
    printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor == listener) {
                int accepted;
                while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (accepted >= CONNECTIONS_MAX || (connections[accepted] = calloc(1, sizeof(struct connection))) == NULL) {
                        close(accepted);
                        continue;
                    }
                    setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = accepted};
                    epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &wanted);
                }
                continue;
            }
            ssize_t got = recv(descriptor, buffer, sizeof buffer, 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (got <= 0 || take(descriptor, connections[descriptor], buffer, (size_t)got) < 0) close_connection(descriptor);
        }
    }
}
