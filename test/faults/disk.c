/*
 * A disk that fails when it is told to, and keeps only what was synced: preloaded (LD_PRELOAD), it stands between a process and the
 * files below one directory. build.sh makes it. Settings, in the environment:
 *
 *     DISK_ROOT    the directory, absolute and without links
 *     DISK_RULES   a file of rules, read again when it has changed; one a line:  OP NAME ACTION SKIP COUNT
 *                    OP      write, sync, open or truncate
 *                    NAME    how the file's path ends
 *                    ACTION  a number: the call fails with that errno
 *                            drop: a sync that fails with EIO, and whose pages are lost, as Linux does: they can still be read, are
 *                            taken for clean, and the next sync succeeds
 *                            kill: the process dies there (SIGKILL)
 *                    SKIP    so many calls pass first; then COUNT are hit, -1 for all
 *     DISK_HITS    a file that gets a line for each call that was hit
 *     DISK_KEPT    a directory that gets what a loss of power would leave: contents when they are synced, names at once
 *     DISK_BOOT    a file to be read in place of the boot's id
 *
 * It calls the kernel itself, so that it needs no version of the C library but the oldest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of which source it was made: its SHA-256. */
__attribute__((used)) static const char made_of[] = "disk.c " MADE_OF;

enum { PAGE = 4096, FILES = 512, RULES = 32, FDS = 65536, PATH = 1024, TEXT = 4096 };

struct file { ino_t ino; char path[PATH]; unsigned char *dirty; size_t pages; };
struct rule { char op[12], name[128], action[16]; long skip, count; };

static struct file files[FILES];
static int file_count;
static short file_at[FDS];
static struct rule rules[RULES];
static int rule_count;
static struct timespec rules_at;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *rules_file, *hits, *kept, *boot;
static int ready;

__attribute__((constructor)) static void begin(void)
{
	root = getenv("DISK_ROOT");
	rules_file = getenv("DISK_RULES");
	hits = getenv("DISK_HITS");
	kept = getenv("DISK_KEPT");
	boot = getenv("DISK_BOOT");
	memset(file_at, -1, sizeof file_at);
	ready = root != NULL;
}

static int k_open(const char *path, int flags, int mode) { return syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode); }
static int k_stat(const char *path, struct stat *st) { return syscall(SYS_newfstatat, AT_FDCWD, path, st, 0); }
static int k_fstat(int fd, struct stat *st) { return syscall(SYS_fstat, fd, st); }
static int k_mkdir(const char *path) { return syscall(SYS_mkdirat, AT_FDCWD, path, 0700); }
static void k_close(int fd) { if (fd >= 0) syscall(SYS_close, fd); }

static int is_below(const char *path)
{
	size_t length = root ? strlen(root) : 0;

	return ready && strncmp(path, root, length) == 0 && path[length] == '/';
}

static int ends_with(const char *path, const char *name)
{
	size_t length = strlen(path), end = strlen(name);

	return end <= length && strcmp(path + length - end, name) == 0;
}

static void kept_path(char *to, const char *path) { snprintf(to, 2 * PATH, "%s%s", kept, path + strlen(root)); }

static int kept_open(const char *path, int flags)
{
	char to[2 * PATH];
	kept_path(to, path);
	int fd = k_open(to, O_WRONLY | O_CREAT | flags, 0600);
	if (fd >= 0)
		return fd;
	for (char *at = to + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		k_mkdir(to);
		*at = '/';
	}
	return k_open(to, O_WRONLY | O_CREAT | flags, 0600);
}

/* With the lock held, as what follows. */
static void read_rules(void)
{
	struct stat st;
	char text[TEXT], *save, *line;

	if (!rules_file || k_stat(rules_file, &st) != 0) {
		rule_count = 0;
		rules_at.tv_sec = 0;
		return;
	}
	if (st.st_mtim.tv_sec == rules_at.tv_sec && st.st_mtim.tv_nsec == rules_at.tv_nsec)
		return;
	rules_at = st.st_mtim;
	rule_count = 0;
	int fd = k_open(rules_file, O_RDONLY, 0);
	long length = fd < 0 ? 0 : syscall(SYS_read, fd, text, sizeof text - 1);
	k_close(fd);
	text[length > 0 ? length : 0] = 0;
	for (line = strtok_r(text, "\n", &save); line && rule_count < RULES; line = strtok_r(NULL, "\n", &save)) {
		struct rule *r = &rules[rule_count];
		if (sscanf(line, "%11s %127s %15s %ld %ld", r->op, r->name, r->action, &r->skip, &r->count) == 5)
			rule_count++;
	}
}

static void tell_hit(const char *op, const char *path, const char *action)
{
	char text[2 * PATH];
	int length = snprintf(text, sizeof text, "%s %s %s\n", op, path + strlen(root) + 1, action);
	int fd = hits ? k_open(hits, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;

	if (fd >= 0)
		syscall(SYS_write, fd, text, length);
	k_close(fd);
}

/* What a rule has to say of this call; NULL: nothing. */
static const char *action_for(const char *op, const char *path)
{
	read_rules();
	for (int at = 0; at < rule_count; at++) {
		struct rule *r = &rules[at];
		if (strcmp(r->op, op) != 0 || !ends_with(path, r->name) || r->count == 0)
			continue;
		if (r->skip > 0) {
			r->skip--;
			continue;
		}
		if (r->count > 0)
			r->count--;
		tell_hit(op, path, r->action);
		if (strcmp(r->action, "kill") == 0)
			syscall(SYS_kill, getpid(), SIGKILL);
		return r->action;
	}
	return NULL;
}

static void follow(int fd, const char *given, int flags)
{
	char link[64], path[PATH];
	struct stat st;
	int at;

	if (!ready || fd < 0 || fd >= FDS)
		return;
	file_at[fd] = -1;
	if (strncmp(given, "/proc", 5) == 0)
		return;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
	if (length <= 0)
		return;
	path[length] = 0;
	if (!is_below(path) || k_fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return;
	pthread_mutex_lock(&lock);
	for (at = 0; at < file_count; at++)
		if (files[at].ino == st.st_ino && strcmp(files[at].path, path) == 0)
			break;
	if (at == file_count && file_count < FILES) {
		files[at].ino = st.st_ino;
		snprintf(files[at].path, PATH, "%s", path);
		file_count++;
	}
	file_at[fd] = at < file_count ? at : -1;
	if (kept)
		k_close(kept_open(path, flags & O_TRUNC));
	pthread_mutex_unlock(&lock);
}

/* The file of a descriptor, or NULL. It is looked at each time: libuv closes descriptors past this library. */
static struct file *file_of(int fd)
{
	struct stat st;

	if (!ready || fd < 0 || fd >= FDS || file_at[fd] < 0)
		return NULL;
	struct file *file = &files[file_at[fd]];
	if (k_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == file->ino)
		return file;
	file_at[fd] = -1;
	return NULL;
}

/* Whether a call is to fail; then errno is set. `dropped`: a sync's pages are lost. */
static int fails(const char *op, const char *path, int *dropped)
{
	pthread_mutex_lock(&lock);
	const char *action = action_for(op, path);
	int number = action == NULL ? 0 : strcmp(action, "drop") == 0 ? EIO : atoi(action);
	if (action && dropped)
		*dropped = strcmp(action, "drop") == 0;
	pthread_mutex_unlock(&lock);
	if (number != 0)
		errno = number;
	return number != 0;
}

static long written(struct file *file, off_t from, long bytes)
{
	int number = errno;

	if (!file || !kept || bytes <= 0)
		return bytes;
	pthread_mutex_lock(&lock);
	size_t last = (from + bytes - 1) / PAGE;
	if (last >= file->pages) {
		size_t pages = 2 * last + 64;
		file->dirty = realloc(file->dirty, pages);
		memset(file->dirty + file->pages, 0, pages - file->pages);
		file->pages = pages;
	}
	memset(file->dirty + from / PAGE, 1, last - from / PAGE + 1);
	pthread_mutex_unlock(&lock);
	errno = number;
	return bytes;
}

/* What is dirty is kept; or lost. */
static void settle(struct file *file, int dropped)
{
	char page[PAGE];
	struct stat st;

	if (!kept)
		return;
	pthread_mutex_lock(&lock);
	int out = dropped ? -1 : kept_open(file->path, 0);
	int in = dropped ? -1 : k_open(file->path, O_RDONLY, 0);
	for (size_t at = 0; at < file->pages; at++) {
		if (!file->dirty[at])
			continue;
		file->dirty[at] = 0;
		long length = dropped ? 0 : syscall(SYS_pread64, in, page, PAGE, at * PAGE);
		if (length > 0)
			syscall(SYS_pwrite64, out, page, length, at * PAGE);
	}
	if (in >= 0 && k_fstat(in, &st) == 0)
		syscall(SYS_ftruncate, out, st.st_size);
	k_close(in);
	k_close(out);
	pthread_mutex_unlock(&lock);
}

static int opened(int dir, const char *path, int flags, int mode)
{
	if (boot && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		path = boot;
	if (is_below(path) && fails("open", path, NULL))
		return -1;
	int fd = syscall(SYS_openat, dir, path, flags, mode);
	int number = errno;
	if (fd >= 0)
		follow(fd, path, flags);
	errno = number;
	return fd;
}

#define MODE(flags) \
	int mode = 0; \
	if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, int); va_end(list); }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return opened(dir, path, flags, mode); }

static off_t place(int fd) { return syscall(SYS_lseek, fd, 0, SEEK_CUR); }

#define WRITE(from, call) \
	struct file *file = file_of(fd); \
	if (file && fails("write", file->path, NULL)) return -1; \
	off_t at = file ? (from) : 0; \
	return written(file, at, call);

ssize_t write(int fd, const void *bytes, size_t n) { WRITE(place(fd), syscall(SYS_write, fd, bytes, n)) }
ssize_t writev(int fd, const struct iovec *parts, int n) { WRITE(place(fd), syscall(SYS_writev, fd, parts, n)) }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t to) { WRITE(to, syscall(SYS_pwrite64, fd, bytes, n, to)) }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t to) { WRITE(to, syscall(SYS_pwrite64, fd, bytes, n, to)) }
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t to) { WRITE(to, syscall(SYS_pwritev, fd, parts, n, to, 0)) }
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t to) { WRITE(to, syscall(SYS_pwritev, fd, parts, n, to, 0)) }

static int synced(int fd, long call)
{
	struct file *file = file_of(fd);
	int dropped = 0;

	if (file && fails("sync", file->path, &dropped)) {
		int number = errno;
		if (dropped)
			settle(file, 1);
		errno = number;
		return -1;
	}
	/* Where what would be left is kept apart, the real disk need not be waited for. */
	if (file && kept) {
		settle(file, 0);
		return 0;
	}
	return syscall(call, fd);
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int truncated(int fd, off_t length)
{
	struct file *file = file_of(fd);

	return file && fails("truncate", file->path, NULL) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

int rename(const char *from, const char *to)
{
	int done = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	int number = errno;
	char was[2 * PATH], is[2 * PATH];

	if (done != 0 || !is_below(from) || !is_below(to)) {
		errno = number;
		return done;
	}
	pthread_mutex_lock(&lock);
	for (int at = 0; at < file_count; at++)
		if (strcmp(files[at].path, from) == 0)
			snprintf(files[at].path, PATH, "%s", to);
	if (kept) {
		kept_path(was, from);
		kept_path(is, to);
		syscall(SYS_renameat2, AT_FDCWD, was, AT_FDCWD, is, 0);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

int link(const char *from, const char *to)
{
	int done = syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
	int number = errno;
	char was[2 * PATH], is[2 * PATH];

	if (done == 0 && kept && is_below(from) && is_below(to)) {
		kept_path(was, from);
		kept_path(is, to);
		syscall(SYS_linkat, AT_FDCWD, was, AT_FDCWD, is, 0);
	}
	errno = number;
	return done;
}

static int removed(int dir, const char *path, int flags)
{
	char whole[2 * PATH], link[64], to[4 * PATH];

	if (path[0] == '/' || dir == AT_FDCWD) {
		snprintf(whole, sizeof whole, "%s", path);
	} else {
		snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
		long length = syscall(SYS_readlinkat, AT_FDCWD, link, whole, PATH);
		snprintf(whole + (length > 0 ? length : 0), PATH, "/%s", path);
	}
	int done = syscall(SYS_unlinkat, dir, path, flags);
	int number = errno;
	if (done == 0 && kept && is_below(whole)) {
		snprintf(to, sizeof to, "%s%s", kept, whole + strlen(root));
		syscall(SYS_unlinkat, AT_FDCWD, to, flags);
	}
	errno = number;
	return done;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return removed(dir, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path)
{
	int done = removed(AT_FDCWD, path, 0);

	return done != 0 && (errno == EISDIR || errno == EPERM) ? removed(AT_FDCWD, path, AT_REMOVEDIR) : done;
}
