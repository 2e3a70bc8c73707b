// What the files of this target share.
#ifndef CLUA_INTERNAL_H
#define CLUA_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "clua.h"

enum {
    CLUA_HOOK_PERIOD = 1000,
    CLUA_DEPTH_MAX = 64,
    CLUA_MESSAGE_BYTES = 2048,
    CLUA_WHERE_BYTES = 256,
    CLUA_SCRATCH_KEPT_BYTES = 1 << 20,
    CLUA_KEYS_MAX = 1000,
};

typedef enum { TRIP_NONE = 0, TRIP_INSTRUCTIONS, TRIP_TIME, TRIP_MEMORY, TRIP_STOPPED } trip_reason;

struct clua_state {
    lua_State *main;
    // The thread whose code runs, for the position in messages; null outside of calls.
    lua_State *running;
    // The coroutine of a poll; null if there is none. Anchored in the registry.
    lua_State *coroutine;
    int coroutine_ref;
    int coroutine_function;
    int records_max;

    clua_callbacks callbacks;
    void *context;
    uint32_t epoch;
    int metatables[CLUA_HANDLE_KINDS];
    int array_metatable;
    int environment;
    int functions;

    size_t memory_used;
    size_t memory_max;
    clua_limits limits;
    uint64_t steps;
    uint64_t steps_at_clock;
    uint64_t deadline;
    int hook_period;
    trip_reason trip;
    char where[CLUA_WHERE_BYTES];
    char chunk_name[128];
    char message[CLUA_MESSAGE_BYTES];
    bool result_is_nil;
    bool result_flag;

    char *output;
    size_t output_length;
    size_t output_capacity;
    size_t output_max;
    bool output_full;
    char *scratch;
    size_t scratch_capacity;
};

static inline clua_state *state_of(lua_State *L) { return *(clua_state **)lua_getextraspace(L); }

// limits.c
void *limits_allocate(void *context, void *pointer, size_t old_size, size_t new_size);
void limits_begin(clua_state *S, clua_limits limits);
void limits_enter(clua_state *S, lua_State *L);
void limits_leave(clua_state *S);
// Counts work that C does for Lua; raises when a limit is passed.
void limits_charge(lua_State *L, uint64_t steps);
// Ends the call for good: raises, and what catches it raises again.
int limits_trip(lua_State *L, trip_reason reason);
// Raises again if a limit was passed. `status` is how a protected call ended.
void limits_rethrow(lua_State *L, int status);
// "connector.lua:12: " of the innermost Lua function, or an empty text.
void limits_where(lua_State *L, char *out, size_t size);

// sandbox.c
void sandbox_open(lua_State *L);
// Pushes what a filter can reach: a part of the sandbox, read-only.
void sandbox_push_filter_environment(lua_State *L);
// pattern.c: find, match, gmatch, gsub, with their work counted.
extern const luaL_Reg pattern_functions[];
// handles.c
void handles_open(lua_State *L);
void handles_push(lua_State *L, const clua_handle *handle);
void handles_push_value(lua_State *L, const clua_value *value);
clua_handle *handles_test(lua_State *L, int index);
void handles_to_table(lua_State *L, int index, int depth);
void handles_check(lua_State *L, const clua_value *value);
extern const luaL_Reg handle_functions[];
// encode.c
void encode_begin(clua_state *S, size_t bytes_max);
// `functions`: index of a table that takes the functions found, or 0 to refuse them.
void encode_value(lua_State *L, int index, int depth, int functions, const char *what);
int encode_json(lua_State *L);
void output_append(lua_State *L, const char *bytes, size_t length);
// helpers.c
extern const luaL_Reg helper_functions[];

#endif
