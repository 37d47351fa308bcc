/* What glibc reads in a hosts file or in a resolv.conf, for comparison: lines as tests/cross/understood.rs takes
 * them, and the same answers, in a mount namespace of its own in which the file stands in the place of the real
 * one. Nobody is asked: the network namespace is empty, and nsswitch.conf names no other source. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "waterbug.lan"
/* Microseconds of processor that reading a file may take: 2.36 reads some for ever. */
#define PATIENCE 50000

static void put(const char *path, const char *place)
{
    if (mount(path, place, NULL, MS_BIND, NULL))
        err(1, "mount %s on %s", path, place);
}

static void print_address(int family, const void *address)
{
    char text[INET6_ADDRSTRLEN];
    printf("%s ", inet_ntop(family, address, text, sizeof text));
}

/* The addresses of a family, then a bar. */
static void hosts(int family)
{
    static char buffer[1 << 20];
    struct hostent entry, *found = NULL;
    int why;
    if (gethostbyname2_r(NAME, family, &entry, buffer, sizeof buffer, &found, &why) == 0 && found)
        for (char **address = found->h_addr_list; *address; address++)
            print_address(family, *address);
    printf("|");
}

/* The servers, a bar, the domains. */
static void resolv_conf(void)
{
    if (res_init())
        errx(1, "res_init");
    for (int number = 0; number < _res.nscount; number++) {
        const struct sockaddr_in6 *v6 = _res._u._ext.nsaddrs[number];
        const struct sockaddr_in *v4 = &_res.nsaddr_list[number];
        if (v4->sin_family == AF_INET) {
            print_address(AF_INET, &v4->sin_addr);
        } else {
            print_address(AF_INET6, &v6->sin6_addr);
            printf("%%%u ", v6->sin6_scope_id);
        }
    }
    printf("|");
    for (char **domain = _res.dnsrch; *domain; domain++)
        printf("%s ", *domain);
}

int main(int count, char **arguments)
{
    char line[4096], path[4096];
    if (count != 3)
        errx(1, "usage: glibc NSSWITCH.CONF HOST.CONF");
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        err(1, "namespaces");
    /* Without a dot: a host without a domain. */
    if (sethostname("client", 6))
        err(1, "sethostname");
    put(arguments[1], "/etc/nsswitch.conf");
    put(arguments[2], "/etc/host.conf");
    while (fgets(line, sizeof line, stdin)) {
        int is_hosts = sscanf(line, "hosts %s", path) == 1;
        const char *place = is_hosts ? "/etc/hosts" : "/etc/resolv.conf";
        if (!is_hosts && sscanf(line, "resolv.conf %s", path) != 1)
            errx(1, "%s", line);
        put(path, place);
        /* A process for each: glibc remembers. */
        pid_t child = fork();
        if (child == 0) {
            struct itimerval patience = { .it_value.tv_usec = PATIENCE };
            setitimer(ITIMER_PROF, &patience, NULL);
            if (is_hosts) {
                hosts(AF_INET);
                hosts(AF_INET6);
            } else {
                resolv_conf();
            }
            printf("\n");
            fflush(stdout);
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child)
            err(1, "fork");
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
            puts("endless|");
        else if (status)
            errx(1, "no answer for %s", path);
        fflush(stdout);
        if (umount2(place, MNT_DETACH))
            err(1, "umount %s", place);
    }
    return 0;
}
