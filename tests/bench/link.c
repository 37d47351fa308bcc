/* A link with a delay and with losses between two network interfaces, where the kernel has no netem.
 *
 *     link INTERFACE INTERFACE DELAY-MS LOSS-PERCENT SEED
 *
 * What comes in at either leaves at the other after the delay; of the frames of each direction the same
 * ones are lost whenever the seed is the same. It says "ready" and runs until it is ended.
 *
 *     cc -O2 -o link link.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    FRAME_MAX = 65536 + 64, /* octets: a whole segment offload, and the header before it */
    QUEUE_MAX = 4096,       /* frames on their way in one direction */
};

struct frame {
    int64_t leaves_at; /* nanoseconds */
    ssize_t length;
    unsigned char *octets;
};

struct direction {
    int from, to; /* packet sockets */
    uint64_t random;
    struct frame queue[QUEUE_MAX];
    unsigned first, last; /* of the queue, modulo QUEUE_MAX */
};

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* A packet socket that has every frame that comes in, checksums and segmentation left as they are. */
static int open_interface(const char *name)
{
    int one = 1, index = if_nametoindex(name), size = 8 << 20;
    int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = index};
    struct packet_mreq everything = {.mr_ifindex = index, .mr_type = PACKET_MR_PROMISC};
    if (!index || descriptor < 0
        || setsockopt(descriptor, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)
        || setsockopt(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one)
        || setsockopt(descriptor, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &everything, sizeof everything)
        || setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size)
        || bind(descriptor, (struct sockaddr *)&address, sizeof address))
        err(1, "%s", name);
    return descriptor;
}

/* splitmix64: the next number of a direction. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Takes what has come in; loses some. */
static void receive(struct direction *way, int64_t delay, double loss)
{
    static unsigned char octets[FRAME_MAX];
    ssize_t length;
    while ((length = recv(way->from, octets, sizeof octets, 0)) > 0) {
        if ((next_random(&way->random) >> 11) * 0x1p-53 < loss || way->last - way->first == QUEUE_MAX)
            continue;
        struct frame *frame = &way->queue[way->last++ % QUEUE_MAX];
        *frame = (struct frame){now() + delay, length, malloc(length)};
        if (!frame->octets)
            err(1, "malloc");
        memcpy(frame->octets, octets, length);
    }
}

/* Sends what is due: when the next is. */
static int64_t forward(struct direction *way)
{
    for (; way->first != way->last; way->first++) {
        struct frame *frame = &way->queue[way->first % QUEUE_MAX];
        if (frame->leaves_at > now())
            return frame->leaves_at;
        if (send(way->to, frame->octets, frame->length, 0) < 0 && errno != ENOBUFS && errno != EAGAIN)
            warn("send");
        free(frame->octets);
    }
    return INT64_MAX;
}

int main(int count, char **arguments)
{
    static struct direction there, back;
    if (count != 6)
        errx(2, "usage: link INTERFACE INTERFACE DELAY-MS LOSS-PERCENT SEED");
    there.from = back.to = open_interface(arguments[1]);
    there.to = back.from = open_interface(arguments[2]);
    int64_t delay = atof(arguments[3]) * 1000000;
    double loss = atof(arguments[4]) / 100;
    there.random = strtoull(arguments[5], NULL, 10);
    back.random = ~there.random;
    puts("ready");
    fflush(stdout);
    for (;;) {
        int64_t first = forward(&there), second = forward(&back), wait = (first < second ? first : second);
        wait = wait == INT64_MAX ? 1000000000 : wait - now();
        struct timespec timeout = {0, wait < 0 ? 0 : wait > 999999999 ? 999999999 : wait};
        struct pollfd sockets[] = {{there.from, POLLIN, 0}, {back.from, POLLIN, 0}};
        if (ppoll(sockets, 2, &timeout, NULL) < 0 && errno != EINTR)
            err(1, "ppoll");
        receive(&there, delay, loss);
        receive(&back, delay, loss);
    }
}
