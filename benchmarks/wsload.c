/* The WebSocket load generator: one thread, one epoll, no allocation while it measures, so that it outruns any server.

     wsload --port N [--connections N] [--seconds N] [--size N] [--text] [--deflate] [--broadcast]

   Every connection makes its opening handshake (RFC 6455 section 4) and then has one message in flight: it sends one,
   masked, with a number and a mask of its own, and the next when it has it back byte for byte. With --broadcast the
   first connection alone sends, and sends the next when every one has received it. With --deflate permessage-deflate is
   offered (RFC 7692) and has to be agreed to; messages are JSON then, 256 of them in turn, and both directions keep
   their context. Pings are answered.

   One line of JSON goes to stdout: messages that came back (each receiver's counts), seconds, messages a second, how
   many were wrong, how many connections failed or stood still, and latency in milliseconds. Time begins when the last
   handshake is done. Only 127.0.0.1 is spoken to.

   cc -O3 -o wsload wsload.c -lz        Linux (epoll) and zlib, nothing else. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, FIN = 0x80, RSV1 = 0x40, MASKED = 0x80 };
enum { HEADER = 14, NUMBER = 16 };          /* a header's most bytes; the digits that each message begins with */
enum { TEXTS = 256, STILL = 2, SLOTS = 2000000 }; /* STILL: seconds; SLOTS: microseconds of latency that are told apart */

static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* section 1.3 */

typedef struct {
    int fd, open, writing;
    uint64_t sent_at;                       /* microseconds; 0: nothing is in flight */
    unsigned char *out, *in, *message;      /* what is to be written, was read, and the message that is put together */
    size_t out_at, out_end, in_at, in_end, got;
    int opcode, deflated;                   /* what that message began with */
    const unsigned char *due;               /* what it has to be */
    unsigned char *plain;                   /* room for `due` */
    int forgets;                            /* each message is to be deflated on its own */
    z_stream deflate, inflate;
} Connection;

static struct { int port, connections, seconds, text, deflate, broadcast; size_t size; } wanted = {
    .connections = 64, .seconds = 3, .size = 64};
static Connection *connections;
static unsigned char *texts[TEXTS], *inflated;
static size_t room;
static int poller, living, awaited, stopping;
static uint64_t messages, wrong, failed, number, seed = 88172645463325252ull;
static uint32_t *latencies;

static void die(const char *what) {
    fprintf(stderr, "wsload: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void *get(size_t size) {
    void *found = calloc(1, size);
    if (!found) die("memory");
    return found;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static uint64_t chance(void) { /* xorshift */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}

/* ---------------------------------------------------------------- connections */

static void watch(Connection *each, int operation, int writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = each};
    if (epoll_ctl(poller, operation, each->fd, &event)) die("epoll_ctl");
    each->writing = writing;
}

static void drop(Connection *each, uint64_t *why) {
    if (!each->open) return;
    close(each->fd);
    each->open = 0, living--, ++*why;
}

static void flush(Connection *each) {
    while (each->out_at < each->out_end) {
        size_t left = each->out_end - each->out_at;
        ssize_t count = send(each->fd, each->out + each->out_at, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno != EAGAIN) { drop(each, &failed); return; }
        if (count < 0) break;
        each->out_at += (size_t)count;
    }
    int left = each->out_at < each->out_end;
    if (!left) each->out_at = each->out_end = 0;
    if (left != each->writing) watch(each, EPOLL_CTL_MOD, left);
}

static void frame(Connection *each, int first, const unsigned char *payload, size_t size) {
    if (each->out_end + HEADER + size > room) { drop(each, &failed); return; }
    unsigned char mask[8], *out = each->out + each->out_end;
    uint64_t word = chance() & 0xffffffff;
    word |= word << 32;
    memcpy(mask, &word, 8);
    *out++ = (unsigned char)(FIN | first);
    if (size < 126) *out++ = (unsigned char)(MASKED | size);
    else if (size < 65536) *out++ = MASKED | 126, *out++ = (unsigned char)(size >> 8), *out++ = (unsigned char)size;
    else {
        *out++ = MASKED | 127;
        for (int shift = 56; shift >= 0; shift -= 8) *out++ = (unsigned char)(size >> shift);
    }
    memcpy(out, mask, 4), out += 4;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t eight;
        memcpy(&eight, payload + at, 8);
        eight ^= word;
        memcpy(out + at, &eight, 8);
    }
    for (; at < size; at++) out[at] = payload[at] ^ mask[at & 3];
    each->out_end = (size_t)(out + size - each->out);
    flush(each);
}

static void send_next(Connection *each) {
    const unsigned char *payload = each->plain;
    size_t size = wanted.size;
    int first = wanted.text ? TEXT : BINARY;
    each->due = each->plain;
    if (wanted.deflate) memcpy(each->plain, texts[number % TEXTS], size);
    char digits[NUMBER + 1];
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)number++);
    memcpy(each->plain, digits, size < NUMBER ? size : NUMBER);
    if (wanted.deflate) {
        z_stream *stream = &each->deflate;
        stream->next_in = each->plain, stream->avail_in = (uInt)size;
        stream->next_out = inflated, stream->avail_out = (uInt)room;
        if (deflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_in) die("deflate");
        payload = inflated, size = room - stream->avail_out - 4, first |= RSV1;
        if (each->forgets) deflateReset(stream);
    }
    each->sent_at = now();
    frame(each, first, payload, size);
}

static void begin(void) {
    if (wanted.broadcast) {
        awaited = living;
        send_next(&connections[0]);
        for (int at = 1; at < wanted.connections; at++)
            connections[at].due = connections[0].due, connections[at].sent_at = connections[0].sent_at;
    } else for (int at = 0; at < wanted.connections; at++) send_next(&connections[at]);
}

/* ---------------------------------------------------------------- what comes */

static int inflates_to(Connection *each, const unsigned char *due) {
    static const unsigned char tail[4] = {0, 0, 255, 255};
    z_stream *stream = &each->inflate;
    memcpy(each->message + each->got, tail, 4);
    stream->next_in = each->message, stream->avail_in = (uInt)each->got + 4;
    stream->next_out = inflated, stream->avail_out = (uInt)room;
    int said = inflate(stream, Z_SYNC_FLUSH);
    return said == Z_OK && room - stream->avail_out == wanted.size && !memcmp(inflated, due, wanted.size);
}

static void on_message(Connection *each) {
    if (!each->sent_at) { drop(each, &wrong); return; } /* nothing was asked for */
    int right = each->opcode == (wanted.text ? TEXT : BINARY);
    if (each->deflated) right = inflates_to(each, each->due) && right;
    else right = right && each->got == wanted.size && !memcmp(each->message, each->due, wanted.size);
    uint64_t took = now() - each->sent_at;
    each->sent_at = 0;
    if (!right) drop(each, &wrong);
    else messages++, latencies[took < SLOTS ? took : SLOTS - 1]++;
    if (stopping) return;
    if (!wanted.broadcast) { if (right) send_next(each); }
    else if (!--awaited && connections[0].open) begin();
}

/* One frame of what was read; 0 when it is not all there. */
static int take(Connection *each) {
    unsigned char *at = each->in + each->in_at;
    size_t have = each->in_end - each->in_at, length, start = 2;
    if (have < 2) return 0;
    int first = at[0], opcode = first & 15;
    length = at[1];
    if (length == 126) {
        if (have < 4) return 0;
        length = (size_t)at[2] << 8 | at[3], start = 4;
    } else if (length == 127) {
        if (have < 10) return 0;
        length = 0, start = 10;
        for (int digit = 2; digit < 10; digit++) length = length << 8 | at[digit];
    } else if (length & MASKED) { drop(each, &failed); return 0; }
    if (length > room / 2 - each->got) { drop(each, &wrong); return 0; }
    if (have < start + length) return 0;
    at += start, each->in_at += start + length;
    if (opcode == CLOSE) { drop(each, &failed); return 0; }
    if (opcode == PING) { frame(each, PONG, at, length); return 1; }
    if (opcode > BINARY) return 1;
    if (opcode) each->got = 0, each->deflated = first & RSV1, each->opcode = opcode;
    memcpy(each->message + each->got, at, length);
    each->got += length;
    if (first & FIN) on_message(each), each->got = 0;
    return 1;
}

static void on_bytes(Connection *each) {
    ssize_t count = recv(each->fd, each->in + each->in_end, room - each->in_end, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) { drop(each, &failed); return; }
    each->in_end += (size_t)count;
    while (each->open && take(each)) ;
    if (each->in_at == each->in_end) each->in_at = each->in_end = 0;
    else if (each->in_at) {
        memmove(each->in, each->in + each->in_at, each->in_end - each->in_at);
        each->in_end -= each->in_at, each->in_at = 0;
    }
}

/* ---------------------------------------------------------------- the handshake, one connection after another */

static void shake(Connection *each) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)wanted.port)};
    struct timeval patience = {.tv_sec = 5};
    char text[4096];
    int on = 1, length;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    each->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (each->fd < 0) die("socket");
    setsockopt(each->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(each->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(each->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    length = snprintf(text, sizeof text,
                      "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                      wanted.port, KEY,
                      wanted.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    if (send(each->fd, text, (size_t)length, MSG_NOSIGNAL) != length) die("handshake");
    char *end = NULL;
    for (size_t have = 0; !end; end = strstr(text, "\r\n\r\n")) {
        ssize_t count = recv(each->fd, text + have, sizeof text - 1 - have, 0);
        if (count <= 0) die("the handshake was not answered");
        have += (size_t)count, text[have] = 0;
    }
    errno = 0;
    if (strncmp(text, "HTTP/1.1 101 ", 13) || !strstr(text, ACCEPT)) die("the handshake was not agreed to");
    int agreed = strcasestr(text, "permessage-deflate") != NULL;
    if (agreed != wanted.deflate) die(agreed ? "an extension that nobody offered" : "permessage-deflate was declined");
    if (wanted.deflate) {
        char *bits = strcasestr(text, "client_max_window_bits=");
        each->forgets = strcasestr(text, "client_no_context_takeover") != NULL;
        int window = bits ? atoi(bits + strlen("client_max_window_bits=")) : 15;
        if (deflateInit2(&each->deflate, 1, Z_DEFLATED, -window, 8, Z_DEFAULT_STRATEGY) != Z_OK) die("deflate");
        if (inflateInit2(&each->inflate, -15) != Z_OK) die("inflate");
    }
    each->open = 1, living++;
}

static void make(void) {
    room = 2 * (wanted.size + HEADER) + 65536;
    connections = get(sizeof *connections * (size_t)wanted.connections);
    latencies = get(sizeof *latencies * SLOTS);
    inflated = get(room);
    for (int at = 0; at < TEXTS; at++) {
        char *text = (char *)(texts[at] = get(wanted.size + 256));
        for (size_t have = NUMBER; have < wanted.size;)
            have += (size_t)sprintf(text + have, "{\"id\":%u,\"user\":\"user-%u\",\"price\":%u.%02u,\"state\":\"%s\"},",
                                    (unsigned)(chance() >> 40), (unsigned)(chance() % 1000),
                                    (unsigned)(chance() % 500), (unsigned)(chance() % 100), chance() & 1 ? "open" : "done");
    }
    poller = epoll_create1(0);
    for (int at = 0; at < wanted.connections; at++) {
        Connection *each = &connections[at];
        each->out = get(room), each->in = get(room), each->message = get(room + 4), each->plain = get(wanted.size + 1);
        memset(each->plain, 'x', wanted.size);
        shake(each);
    }
    for (int at = 0; at < wanted.connections; at++) watch(&connections[at], EPOLL_CTL_ADD, 0);
}

/* ---------------------------------------------------------------- */

static void turn(int milliseconds) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, milliseconds);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int at = 0; at < count; at++) {
        Connection *each = events[at].data.ptr;
        if (each->open && events[at].events & EPOLLOUT) flush(each);
        if (each->open && events[at].events & ~(uint32_t)EPOLLOUT) on_bytes(each);
    }
}

static double percentile(double share) {
    uint64_t count = 0, due = (uint64_t)((double)messages * share);
    for (int at = 0; at < SLOTS; at++)
        if ((count += latencies[at]) > due) return at / 1000.0;
    return 0;
}

static int in_flight(void) {
    int count = 0;
    for (int at = 0; at < wanted.connections; at++) count += connections[at].open && connections[at].sent_at;
    return count;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"size", 1, 0, 'b'},
        {"text", 0, 0, 't'}, {"deflate", 0, 0, 'd'}, {"broadcast", 0, 0, 'a'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) >= 0;) switch (option) {
        case 'p': wanted.port = atoi(optarg); break;
        case 'c': wanted.connections = atoi(optarg); break;
        case 's': wanted.seconds = atoi(optarg); break;
        case 'b': wanted.size = strtoul(optarg, NULL, 10); break;
        case 't': wanted.text = 1; break;
        case 'd': wanted.deflate = 1; break;
        case 'a': wanted.broadcast = 1; break;
        default: return 2;
    }
    if (optind != argc || wanted.port <= 0 || wanted.connections <= 0 || wanted.size > 1 << 26) die("bad arguments");
    make();
    uint64_t began = now(), end = began + (uint64_t)wanted.seconds * 1000000;
    begin();
    while (living && now() < end) turn(20);
    double took = (double)(now() - began) / 1e6;
    uint64_t counted = messages;
    stopping = 1; /* what is in flight still has to come back, and is not counted */
    for (uint64_t still = now() + STILL * 1000000; in_flight() && now() < still;) turn(20);
    failed += (uint64_t)in_flight();
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.3f, \"wrong\": %llu, \"failed\": %llu, "
           "\"p50\": %.3f, \"p99\": %.3f}\n",
           (unsigned long long)counted, took, (double)counted / took, (unsigned long long)wrong,
           (unsigned long long)failed, percentile(0.50), percentile(0.99));
    return 0;
}
