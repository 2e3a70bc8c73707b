// Memory, instructions and time: what a call may use, and how it ends when it used that up.
//
// After a limit was passed nothing can go on: the hook raises at every instruction, and our pcall raises again instead
// of returning. Finalizers and message handlers of the connector, which Lua runs without hooks, do not exist here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

enum { CLOCK_EVERY_STEPS = 4000, BIG_ALLOCATION_BYTES = 64 * 1024 };
// One instruction may go through all the memory there is, as a comparison of two strings does. Where that is much, the clock is looked
// at more often.
enum { MUCH_MEMORY_BYTES = 4 * 1024 * 1024, HOOK_PERIOD_WITH_MUCH_MEMORY = 100 };

static uint64_t monotonic_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void limits_where(lua_State *L, char *out, size_t size) {
    lua_Debug record;
    out[0] = 0;
    for (int level = 0; level < 16 && lua_getstack(L, level, &record); level++) {
        if (!lua_getinfo(L, "Sl", &record)) return;
        if (record.currentline > 0) {
            snprintf(out, size, "%s:%d: ", record.short_src, record.currentline);
            return;
        }
    }
}

// The position is taken where the failure happens: Lua unwinds a memory error without asking anyone.
static void note_where(clua_state *S) {
    if (S->running) limits_where(S->running, S->where, sizeof S->where);
}

void *limits_allocate(void *context, void *pointer, size_t old_size, size_t new_size) {
    clua_state *S = context;
    size_t held = pointer ? old_size : 0;
    if (new_size == 0) {
        S->memory_used -= held;
        free(pointer);
        return NULL;
    }
    if (new_size > held) {
        size_t growth = new_size - held;
        bool late = growth > BIG_ALLOCATION_BYTES && S->running && monotonic_nanoseconds() > S->deadline;
        if (late && S->trip == TRIP_NONE) {
            S->trip = TRIP_TIME;
            note_where(S);
        }
        if (late || growth > S->memory_max || S->memory_used > S->memory_max - growth) {
            if (S->trip == TRIP_NONE) note_where(S);
            return NULL;
        }
    }
    void *result = realloc(pointer, new_size);
    if (!result) return NULL;
    S->memory_used = S->memory_used - held + new_size;
    return result;
}

static void hook(lua_State *L, lua_Debug *record);

static void set_hook_period(clua_state *S, lua_State *L) {
    int period = S->memory_used > MUCH_MEMORY_BYTES ? HOOK_PERIOD_WITH_MUCH_MEMORY : CLUA_HOOK_PERIOD;
    if (S->limits.instructions < (uint64_t)period) period = (int)S->limits.instructions + 1;
    if (period == S->hook_period) return;
    S->hook_period = period;
    lua_sethook(L, hook, LUA_MASKCOUNT, period);
}

static void hook(lua_State *L, lua_Debug *record) {
    (void)record;
    clua_state *S = state_of(L);
    limits_charge(L, S->trip == TRIP_NONE ? (uint64_t)S->hook_period : 1);
    set_hook_period(S, L);
}

int limits_trip(lua_State *L, trip_reason reason) {
    clua_state *S = state_of(L);
    if (S->trip == TRIP_NONE) {
        S->trip = reason;
        limits_where(L, S->where, sizeof S->where);
    }
    lua_sethook(L, hook, LUA_MASKCOUNT, 1);
    lua_pushnil(L);
    return lua_error(L);
}

void limits_rethrow(lua_State *L, int status) {
    clua_state *S = state_of(L);
    if (S->trip == TRIP_NONE && status == LUA_ERRMEM) S->trip = TRIP_MEMORY;
    if (S->trip != TRIP_NONE) limits_trip(L, S->trip);
}

void limits_charge(lua_State *L, uint64_t steps) {
    clua_state *S = state_of(L);
    S->steps += steps;
    if (S->trip != TRIP_NONE) limits_trip(L, S->trip);
    if (S->steps > S->limits.instructions) limits_trip(L, TRIP_INSTRUCTIONS);
    if (S->steps - S->steps_at_clock < CLOCK_EVERY_STEPS && S->memory_used <= MUCH_MEMORY_BYTES) return;
    S->steps_at_clock = S->steps;
    if (monotonic_nanoseconds() > S->deadline) limits_trip(L, TRIP_TIME);
}

void limits_begin(clua_state *S, clua_limits limits) {
    S->limits = limits;
    S->steps = 0;
    S->steps_at_clock = 0;
    S->trip = TRIP_NONE;
    S->where[0] = 0;
    S->message[0] = 0;
}

void limits_enter(clua_state *S, lua_State *L) {
    S->deadline = monotonic_nanoseconds() + S->limits.nanoseconds;
    S->running = L;
    S->hook_period = 0;
    set_hook_period(S, L);
}

// What is left of the time goes over to the next leg of a coroutine.
void limits_leave(clua_state *S) {
    uint64_t now = monotonic_nanoseconds();
    S->limits.nanoseconds = now < S->deadline ? S->deadline - now : 0;
    S->running = NULL;
}
