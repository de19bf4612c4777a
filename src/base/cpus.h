/* cpus.h - how many processors this process may use: a container often shows more than it gives. */
#ifndef FJ_BASE_CPUS_H
#define FJ_BASE_CPUS_H

/* At least 1: those that the process may run on, no more than its quota gives time for. */
int fj_cpus(void);
/* What a person asks for, no more than those: a further thread gains nothing, and each barrier would wait for the
 * system to run all of them in turn.  0 stays 0. */
int fj_cpus_at_most(long long asked);
/* Processors' time, rounded up, that the control groups of this process have a quota for (cpu.max; version 1:
 * cpu.cfs_quota_us), the least of the group and those that it is in; 0: no limit.  root: "", or a folder
 * in whose place "/" stands. */
int fj_cpus_quota(const char *root);

#endif
