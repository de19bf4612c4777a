/* planted_header.h - cannot stand alone: the header check has to refuse it. */
size_t fj_planted(bool needs_stdbool_and_stddef);
