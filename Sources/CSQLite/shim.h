#ifndef SLUICE_CSQLITE_H
#define SLUICE_CSQLITE_H

// The one call of SQLite that Swift cannot make itself: it takes a variable number of arguments.
extern int sqlite3_config(int option, ...);

// SQLITE_CONFIG_MEMSTATUS: without the statistics no allocation takes a lock that all threads share. Before anything is opened.
static inline int sluice_sqlite_without_statistics(void) { return sqlite3_config(9, 0); }

#endif
