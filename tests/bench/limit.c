/* How fast it could be: finds the cache by name in the fewest system calls, and checks nothing.
 *
 *     limit HOST ADDRESS-FILE CONF-FILE
 *
 * Asks the first server of resolv.conf for A and AAAA at once, on connected UDP sockets; takes the first A
 * record, connects to port 9999, gets /system/nix-cache-info, and writes both files. It has no C library, no
 * resends, no timeouts, and trusts whoever answers: a floor to measure against, not a program to use.
 *
 *     cc -O2 -static -nostdlib -fno-stack-protector -o limit limit.c        (x86_64)
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static long call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

/* gcc calls these by itself. */
void *memset(void *to, int byte, unsigned long length)
{
    for (char *p = to; length--;)
        *p++ = byte;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long length)
{
    for (char *p = to; length--;)
        *p++ = *(*(const char **)&from)++;
    return to;
}

static char *append(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

/* The first occurrence of text among length bytes. */
static char *find(char *bytes, long length, const char *text)
{
    for (; length > 0; bytes++, length--) {
        long same = 0;
        while (text[same] && same < length && bytes[same] == text[same])
            same++;
        if (!text[same])
            return bytes;
    }
    return 0;
}

static int connected(int type, unsigned address, int port)
{
    struct sockaddr_in remote = {AF_INET, htons(port), {address}, {0}};
    int socket = call(SYS_socket, AF_INET, type, 0);
    call(SYS_connect, socket, (long)&remote, sizeof remote);
    return socket;
}

static unsigned parse_address(const char *text)
{
    unsigned char bytes[4] = {0};
    for (int i = 0; i < 4; text++)
        if (*text >= '0' && *text <= '9')
            bytes[i] = bytes[i] * 10 + *text - '0';
        else
            i++;
    return *(unsigned *)bytes;
}

static char *append_address(char *to, const unsigned char *bytes)
{
    for (int i = 0; i < 4; i++) {
        if (i)
            *to++ = '.';
        if (bytes[i] >= 100)
            *to++ = '0' + bytes[i] / 100;
        if (bytes[i] >= 10)
            *to++ = '0' + bytes[i] / 10 % 10;
        *to++ = '0' + bytes[i] % 10;
    }
    return to;
}

/* Asks for one type of record: the socket. */
static int ask(unsigned server, const char *host, int type)
{
    char question[300] = {0, type, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, *end = question + 12, *label = end++;
    for (; *host; host++) {
        if (*host == '.')
            label = end++;
        else {
            *end++ = *host;
            ++*label;
        }
    }
    *end++ = 0;
    *end++ = 0, *end++ = type, *end++ = 0, *end++ = 1;
    int socket = connected(SOCK_DGRAM, server, 53);
    call(SYS_write, socket, (long)question, end - question);
    return socket;
}

static char *skip_name(char *name)
{
    for (; *name; name += 1 + *name)
        if ((*name & 0xc0) == 0xc0)
            return name + 2;
    return name + 1;
}

/* The address in the first A record of an answer. */
static unsigned first_address(char *answer)
{
    char *record = skip_name(answer + 12) + 4;
    for (;;) {
        record = skip_name(record);
        unsigned char *fields = (unsigned char *)record;
        if (fields[1] == 1)
            return *(unsigned *)(fields + 10);
        record += 10 + fields[8] * 256 + fields[9];
    }
}

static void write_file(const char *path, const char *text, const char *end)
{
    call(SYS_write, call(SYS_open, (long)path, O_WRONLY | O_CREAT | O_TRUNC, 0644), (long)text, end - text);
}

__attribute__((used)) static void run(long *stack)
{
    char **arguments = (char **)stack + 1, buffer[4096], text[256], dotted[16], *end;

    long length = call(SYS_read, call(SYS_open, (long)"/etc/resolv.conf", O_RDONLY, 0), (long)buffer, sizeof buffer);
    unsigned server = parse_address(find(buffer, length, "nameserver ") + 11);

    int ipv4 = ask(server, arguments[1], 1);
    ask(server, arguments[1], 28);
    call(SYS_read, ipv4, (long)buffer, sizeof buffer);
    unsigned cache = first_address(buffer);
    *append_address(dotted, (unsigned char *)&cache) = 0;

    int socket = connected(SOCK_STREAM, cache, 9999);
    end = append(append(append(text, "GET /system/nix-cache-info HTTP/1.1\r\nHost: "), dotted), ":9999\r\n\r\n");
    call(SYS_write, socket, (long)text, end - text);
    for (length = 0; !find(buffer, length, "StoreDir: ");)
        length += call(SYS_read, socket, (long)buffer + length, sizeof buffer - length);

    write_file(arguments[2], text, append(append(text, dotted), "\n"));
    end = append(append(append(text, "substituters = http://"), dotted), ":9999/system https://cache.nixos.org\n");
    write_file(arguments[3], text, end);
    call(SYS_exit_group, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall run\n");
