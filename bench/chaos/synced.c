/* Keeps an image of the state that a power cut would leave of a folder: the bytes of each file as of its last fsync,
   and the durable names.

   A program that runs with this library writes into its folder as usual. At each fsync and fdatasync of a file below
   CHAOS_FOLDER the bytes that changed since the last sync are copied into the folder CHAOS_IMAGE:

       data/INODE    the bytes of the file at its last sync
       names         a line for each file: kind, mode, inode, path, target of a link, split by tabs
       marks         for each synced file that was overwritten or truncated since: the offset of the first such byte
       lock          held by every process that changes one of these, and while the folder is rolled back

   Names are durable as in ext4 and XFS. All earlier changes of names become durable with each sync of a folder, of a
   new file, or of any file after a change of a name. A file is empty if its name is durable and it was never synced.

   Bytes that are appended need no mark, because the file is then longer than its image. Only changes of synced bytes
   are intercepted: writes before the end, truncation, and the removal of a file, whose inode may be reused. Changes
   through stdio, a memory mapping (Apache Kafka's indexes, which it rebuilds) or a duplicated descriptor are not
   intercepted, nor are syncs by sync(2), msync(2) and O_SYNC.

   System calls are made directly, because allocators call this code before symbols can be looked up. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILES 65536
#define MAX_MARKS 4096
#define BLOCK 32768

struct marks {
    uint64_t are_names_changed;
    struct {
        uint64_t inode; /* 0: free */
        uint64_t from;
    } of[MAX_MARKS];
};

static char folder[PATH_MAX];
static size_t folder_length; /* 0: there is nothing to do */
static char image[PATH_MAX];
static struct marks *marks;
static uint64_t inode_of[MAX_FILES]; /* of each descriptor that writes a file below the folder */

static int open_directly(const char *path, int flags, mode_t mode)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static void close_directly(int file)
{
    syscall(SYS_close, file);
}

static void image_path(char *path, const char *name, uint64_t inode)
{
    if (inode)
        snprintf(path, PATH_MAX, "%.4000s/%s/%llu", image, name, (unsigned long long)inode);
    else
        snprintf(path, PATH_MAX, "%.4000s/%s", image, name);
}

static void give_up(const char *what)
{
    dprintf(2, "synced.c: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void)
{
    char path[PATH_MAX];
    const char *folder_name = getenv("CHAOS_FOLDER");
    const char *image_name = getenv("CHAOS_IMAGE");
    if (!folder_name || !image_name || !realpath(folder_name, folder) || !realpath(image_name, image))
        return;
    image_path(path, "marks", 0);
    const int file = open_directly(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *marks))
        give_up(path);
    marks = mmap(NULL, sizeof *marks, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close_directly(file);
    if (marks == MAP_FAILED)
        give_up(path);
    folder_length = strlen(folder);
}

/* flock locks the open file description, so the lock excludes other threads and forked children, too. */
static int lock(void)
{
    char path[PATH_MAX];
    image_path(path, "lock", 0);
    const int file = open_directly(path, O_RDWR | O_CREAT, 0600);
    if (file < 0)
        give_up(path);
    while (flock(file, LOCK_EX))
        if (errno != EINTR)
            give_up(path);
    return file;
}

/* A process that was forked while the lock was held has a copy of the descriptor: closing ours would not unlock. */
static void unlock(int file)
{
    flock(file, LOCK_UN);
    close_directly(file);
}

static int is_ours(const char *path)
{
    return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* Returns whether a descriptor refers to a file or folder below CHAOS_FOLDER. */
static int lies_in_folder(int file)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return is_ours(path);
}

/* Marks that a file may differ from its image from offset `from` on. Does nothing for a file without an image. */
static void mark(uint64_t inode, uint64_t from)
{
    char path[PATH_MAX];
    int free_place = -1;
    image_path(path, "data", inode);
    const int held = lock();
    if (!syscall(SYS_faccessat, AT_FDCWD, path, F_OK)) {
        int place = 0;
        while (place < MAX_MARKS && marks->of[place].inode != inode) {
            if (!marks->of[place].inode && free_place < 0)
                free_place = place;
            place++;
        }
        if (place == MAX_MARKS && free_place < 0)
            give_up("more files are marked than there is room for");
        if (place == MAX_MARKS) {
            marks->of[free_place].inode = inode;
            marks->of[free_place].from = from;
        } else if (from < marks->of[place].from) {
            marks->of[place].from = from;
        }
    }
    unlock(held);
}

static void mark_names_changed(void)
{
    if (folder_length)
        marks->are_names_changed = 1;
}

/* The effect of a write: the file, and the offset of the first overwritten byte, or -1 if it only appends. */
struct change {
    uint64_t inode;
    off_t from;
};

static struct change before_write(int file, off_t at)
{
    struct change change = {0, -1};
    struct stat status;
    const int error = errno;
    if (folder_length && file >= 0 && file < MAX_FILES && inode_of[file] && !fstat(file, &status) &&
        status.st_ino == inode_of[file]) {
        if (at < 0 && !(fcntl(file, F_GETFL) & O_APPEND))
            at = lseek(file, 0, SEEK_CUR);
        change.inode = status.st_ino;
        if (at >= 0 && at < status.st_size)
            change.from = at;
    }
    errno = error;
    return change;
}

/* The mark is set after the write. Otherwise a concurrent sync could copy the old bytes and clear the mark. */
static ssize_t after_write(struct change change, ssize_t result)
{
    const int error = errno;
    if (result > 0 && change.from >= 0)
        mark(change.inode, (uint64_t)change.from);
    errno = error;
    return result;
}

ssize_t write(int file, const void *bytes, size_t num)
{
    const struct change change = before_write(file, -1);
    return after_write(change, syscall(SYS_write, file, bytes, num));
}

ssize_t writev(int file, const struct iovec *parts, int num)
{
    const struct change change = before_write(file, -1);
    return after_write(change, syscall(SYS_writev, file, parts, num));
}

ssize_t pwrite64(int file, const void *bytes, size_t num, off64_t at)
{
    const struct change change = before_write(file, at);
    return after_write(change, syscall(SYS_pwrite64, file, bytes, num, at));
}

ssize_t pwrite(int file, const void *bytes, size_t num, off_t at)
{
    return pwrite64(file, bytes, num, at);
}

int ftruncate64(int file, off64_t length)
{
    const int result = (int)syscall(SYS_ftruncate, file, length);
    const int error = errno;
    struct stat status;
    if (!result && folder_length && file >= 0 && file < MAX_FILES && inode_of[file] && !fstat(file, &status))
        mark(status.st_ino, (uint64_t)length);
    errno = error;
    return result;
}

int ftruncate(int file, off_t length)
{
    return ftruncate64(file, length);
}

int truncate64(const char *path, off64_t length)
{
    const int result = (int)syscall(SYS_truncate, path, length);
    const int error = errno;
    struct stat status;
    if (!result && folder_length && !stat(path, &status))
        mark(status.st_ino, (uint64_t)length);
    errno = error;
    return result;
}

int truncate(const char *path, off_t length)
{
    return truncate64(path, length);
}

/* Records the inode of a descriptor that was just opened for writing. */
static int record_opened(int file, int flags)
{
    const int error = errno;
    struct stat status;
    if (file >= 0 && file < MAX_FILES) {
        inode_of[file] = 0;
        if (folder_length && (flags & O_ACCMODE) != O_RDONLY && lies_in_folder(file) && !fstat(file, &status) &&
            S_ISREG(status.st_mode)) {
            inode_of[file] = status.st_ino;
            if (flags & O_TRUNC)
                mark(status.st_ino, 0);
            if (flags & O_CREAT)
                mark_names_changed();
        }
    }
    errno = error;
    return file;
}

#define MODE_OF(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int openat(int parent, const char *path, int flags, ...)
{
    MODE_OF(flags)
    return record_opened((int)syscall(SYS_openat, parent, path, flags, mode), flags);
}

int openat64(int parent, const char *path, int flags, ...)
{
    MODE_OF(flags)
    return record_opened((int)syscall(SYS_openat, parent, path, flags | O_LARGEFILE, mode), flags);
}

int open(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return record_opened((int)syscall(SYS_openat, AT_FDCWD, path, flags, mode), flags);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return record_opened((int)syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode), flags);
}

int creat(const char *path, mode_t mode)
{
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

/* Marks a file whose name is removed: its inode may be reused by a file that shares no byte with the image. */
static void mark_removal(int parent, const char *path)
{
    const int error = errno;
    struct stat status;
    if (folder_length && !fstatat(parent, path, &status, AT_SYMLINK_NOFOLLOW) && S_ISREG(status.st_mode))
        mark(status.st_ino, 0);
    mark_names_changed();
    errno = error;
}

int unlinkat(int parent, const char *path, int flags)
{
    mark_removal(parent, path);
    return (int)syscall(SYS_unlinkat, parent, path, flags);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char *path)
{
    const int result = unlinkat(AT_FDCWD, path, 0);
    return result && errno == EISDIR ? unlinkat(AT_FDCWD, path, AT_REMOVEDIR) : result;
}

int renameat2(int old_parent, const char *old, int parent, const char *path, unsigned flags)
{
    mark_removal(parent, path);
    const int result = (int)syscall(SYS_renameat2, old_parent, old, parent, path, flags);
    mark_names_changed();
    return result;
}

int renameat(int old_parent, const char *old, int parent, const char *path)
{
    return renameat2(old_parent, old, parent, path, 0);
}

int rename(const char *old, const char *path)
{
    return renameat2(AT_FDCWD, old, AT_FDCWD, path, 0);
}

static uint64_t *live; /* inodes of the names that are being written, under the lock */
static size_t num_live, max_live;

static void add_live(uint64_t inode)
{
    if (num_live == max_live) {
        max_live = max_live ? 2 * max_live : 1024;
        live = realloc(live, max_live * sizeof *live);
        if (!live)
            give_up("names");
    }
    live[num_live++] = inode;
}

static int by_inode(const void *one, const void *other)
{
    const uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static void write_names_below(FILE *names, const char *below)
{
    DIR *entries = opendir(below);
    const struct dirent *entry;
    if (!entries)
        return; /* the folder was removed meanwhile */
    while ((entry = readdir(entries))) {
        char path[PATH_MAX], target[PATH_MAX] = "";
        struct stat status;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(path, sizeof path, "%.3800s/%s", below, entry->d_name);
        if (lstat(path, &status))
            continue;
        const char kind = S_ISDIR(status.st_mode)   ? 'd'
                          : S_ISREG(status.st_mode) ? 'f'
                          : S_ISLNK(status.st_mode) ? 'l'
                                                    : 0;
        if (!kind)
            continue; /* sockets and pipes do not outlive their process */
        if (kind == 'l' && readlink(path, target, sizeof target - 1) < 0)
            continue;
        fprintf(names, "%c\t%o\t%llu\t%s\t%s\n", kind, status.st_mode & 07777, (unsigned long long)status.st_ino,
                path + folder_length + 1, target);
        if (kind == 'f')
            add_live(status.st_ino);
        if (kind == 'd')
            write_names_below(names, path);
    }
    closedir(entries);
}

/* Removes the images of files that have no durable name. */
static void drop_dead_images(void)
{
    char path[PATH_MAX];
    const struct dirent *entry;
    image_path(path, "data", 0);
    DIR *entries = opendir(path);
    if (!entries)
        give_up(path);
    qsort(live, num_live, sizeof *live, by_inode);
    while ((entry = readdir(entries))) {
        const uint64_t inode = strtoull(entry->d_name, NULL, 10);
        if (inode && !bsearch(&inode, live, num_live, sizeof *live, by_inode)) {
            image_path(path, "data", inode);
            syscall(SYS_unlinkat, AT_FDCWD, path, 0);
            for (int place = 0; place < MAX_MARKS; place++)
                if (marks->of[place].inode == inode)
                    marks->of[place].inode = 0;
        }
    }
    closedir(entries);
}

/* Makes all names durable. The caller holds the lock. A kill leaves either the old names or the new ones. */
static void write_names(void)
{
    char path[PATH_MAX], draft[PATH_MAX];
    image_path(path, "names", 0);
    image_path(draft, "names.new", 0);
    marks->are_names_changed = 0;
    FILE *names = fopen(draft, "w");
    if (!names)
        give_up(draft);
    num_live = 0;
    write_names_below(names, folder);
    if (fclose(names) || syscall(SYS_renameat2, AT_FDCWD, draft, AT_FDCWD, path, 0))
        give_up(path);
    drop_dead_images();
}

static void copy(int from, int to, off_t at, off_t end)
{
    char block[BLOCK];
    while (at < end) {
        const ssize_t num = pread(from, block, sizeof block, at);
        if (num <= 0)
            return; /* the file was truncated meanwhile */
        for (ssize_t done = 0; done < num;) {
            const ssize_t written = syscall(SYS_pwrite64, to, block + done, num - done, at + done);
            if (written < 0)
                give_up("an image could not be written");
            done += written;
        }
        at += num;
    }
}

/* Copies the changed bytes of a file into its image. The mark is cleared last, so a kill only repeats the copy. */
static void sync_file(int file)
{
    char path[PATH_MAX], link[64];
    struct stat status, known = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const int held = lock();
    const int source = open_directly(link, O_RDONLY, 0);
    if (source >= 0 && !fstat(source, &status)) {
        image_path(path, "data", status.st_ino);
        const int is_new = lstat(path, &known) != 0;
        int place = 0;
        while (place < MAX_MARKS && marks->of[place].inode != status.st_ino)
            place++;
        off_t from = is_new ? 0 : known.st_size;
        if (place < MAX_MARKS && (off_t)marks->of[place].from < from)
            from = (off_t)marks->of[place].from;
        const int target = open_directly(path, O_WRONLY | O_CREAT, 0600);
        if (target < 0)
            give_up(path);
        copy(source, target, from, status.st_size);
        if (known.st_size > status.st_size)
            syscall(SYS_ftruncate, target, status.st_size);
        close_directly(target);
        if (place < MAX_MARKS)
            marks->of[place].inode = 0;
        if (is_new || marks->are_names_changed)
            write_names();
    }
    if (source >= 0)
        close_directly(source);
    unlock(held);
}

static void record_sync(int file)
{
    const int error = errno;
    struct stat status;
    if (folder_length && !fstat(file, &status) && lies_in_folder(file)) {
        if (S_ISREG(status.st_mode)) {
            sync_file(file);
        } else if (S_ISDIR(status.st_mode)) {
            const int held = lock();
            write_names();
            unlock(held);
        }
    }
    errno = error;
}

int fsync(int file)
{
    const int result = (int)syscall(SYS_fsync, file);
    if (!result)
        record_sync(file);
    return result;
}

int fdatasync(int file)
{
    const int result = (int)syscall(SYS_fdatasync, file);
    if (!result)
        record_sync(file);
    return result;
}
