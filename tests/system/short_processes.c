/* short_processes COUNT FILE: runs so many processes, one after the other, each of which uses 5 ms of CPU time; removes the file,
   and waits to be killed. */

#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    for (int left = atoi(argv[1]); left > 0; left--) {
        pid_t child = fork();
        if (child == 0) {
            struct timespec used = {0, 0};
            while (used.tv_sec == 0 && used.tv_nsec < 5000000)
                clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    if (unlink(argv[2]) != 0)
        return 1;
    for (;;)
        pause();
}
