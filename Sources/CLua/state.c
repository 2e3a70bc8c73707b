// The life of a state, and the only places where Lua is entered.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// What a protected function is given: lua_pcall passes nothing else but a pointer without allocating.
typedef struct {
    clua_state *S;
    const char *source;
    size_t length;
    bool is_body;
    int function;
    const clua_argument *arguments;
    int count;
    clua_result result;
    int resume_status;
} protected_call;

static void set_message(clua_state *S, const char *where, const char *text) {
    snprintf(S->message, sizeof S->message, "%s%s", where, text);
}

static const char *limit_text(clua_state *S, char *buffer, size_t size) {
    switch (S->trip) {
    case TRIP_INSTRUCTIONS:
        snprintf(buffer, size, "stopped after %llu instructions (does a loop end?)", (unsigned long long)S->limits.instructions);
        break;
    case TRIP_TIME: snprintf(buffer, size, "stopped: it ran longer than a call may (does a loop end?)"); break;
    default: snprintf(buffer, size, "stopped: it needs more than %zu MB of memory", S->memory_max >> 20);
    }
    return buffer;
}

// Turns the error value at the top of `L` into a status and a message. Runs no code of the connector.
static clua_status finish_error(clua_state *S, lua_State *L, int status) {
    char buffer[160], where[CLUA_WHERE_BYTES];
    if (S->trip == TRIP_NONE && status == LUA_ERRMEM) S->trip = TRIP_MEMORY;
    if (S->trip == TRIP_STOPPED) return CLUA_STOPPED;
    if (S->trip != TRIP_NONE) {
        set_message(S, S->where, limit_text(S, buffer, sizeof buffer));
        return CLUA_LIMIT;
    }
    size_t length;
    limits_where(L, where, sizeof where);
    if (lua_type(L, -1) != LUA_TSTRING) {
        snprintf(buffer, sizeof buffer, "error() was given a %s; give it a text", lua_typename(L, lua_type(L, -1)));
        set_message(S, where, buffer);
        return CLUA_ERROR;
    }
    const char *text = lua_tolstring(L, -1, &length);
    bool located = strncmp(text, S->chunk_name, strlen(S->chunk_name)) == 0 && text[strlen(S->chunk_name)] == ':';
    set_message(S, located ? "" : where, text);
    return CLUA_ERROR;
}

// Runs where the error was raised, while its position is still known.
static int handle_error(lua_State *L) {
    clua_state *S = state_of(L);
    if (S->trip == TRIP_NONE) finish_error(S, L, LUA_ERRRUN);
    return 1;
}

static clua_status enter(clua_state *S, lua_CFunction function, protected_call *call) {
    lua_State *L = S->main;
    call->S = S;
    limits_enter(S, L);
    lua_settop(L, 0);
    lua_pushcfunction(L, handle_error);
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, call);
    int status = lua_pcall(L, 1, 0, 1);
    limits_leave(S);
    clua_status result = CLUA_OK;
    if (status != LUA_OK) {
        // handle_error left the message, unless Lua had no memory or no stack to call it.
        bool handled = status == LUA_ERRRUN && S->trip == TRIP_NONE && S->message[0];
        result = handled ? CLUA_ERROR : finish_error(S, L, status);
    }
    lua_settop(L, 0);
    return result;
}

static int open_state(lua_State *L) {
    handles_open(L);
    sandbox_open(L);
    return 0;
}

clua_state *clua_create(const clua_callbacks *callbacks, void *context, size_t memory_bytes_max) {
    clua_state *S = calloc(1, sizeof *S);
    if (!S) return NULL;
    S->callbacks = *callbacks;
    S->context = context;
    S->memory_max = memory_bytes_max;
    S->epoch = 1;
    S->coroutine_ref = LUA_NOREF;
    S->functions = LUA_NOREF;
    S->main = lua_newstate(limits_allocate, S);
    if (S->main) {
        *(clua_state **)lua_getextraspace(S->main) = S;
        lua_pushcfunction(S->main, open_state);
        if (lua_pcall(S->main, 0, 0, 0) == LUA_OK) return S;
        lua_close(S->main);
    }
    free(S);
    return NULL;
}

void clua_destroy(clua_state *S) {
    if (!S) return;
    S->running = NULL;
    lua_close(S->main);
    free(S->output);
    free(S->scratch);
    free(S);
}

static int load_source(lua_State *L) {
    protected_call *call = lua_touserdata(L, 1);
    clua_state *S = call->S;
    char name[sizeof S->chunk_name + 1];
    snprintf(name, sizeof name, "@%s", S->chunk_name);
    if (luaL_loadbufferx(L, call->source, call->length, name, "t") != LUA_OK) return lua_error(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->environment);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 1);
    if (!lua_istable(L, -1)) return luaL_error(L, "the file must return a table, as in: return { name = \"...\", ... }");
    lua_newtable(L);
    encode_begin(S, 4 * 1024 * 1024);
    encode_value(L, 2, 1, 3, "the connector's table");
    S->functions = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

clua_status clua_load(clua_state *S, const char *source, size_t length, const char *chunk_name, clua_limits limits) {
    protected_call call = {.source = source, .length = length};
    snprintf(S->chunk_name, sizeof S->chunk_name, "%s", chunk_name);
    limits_begin(S, limits);
    return enter(S, load_source, &call);
}

// A source in pieces, so that what stands before it shares its first line.
typedef struct {
    const char *pieces[2];
    size_t lengths[2];
    int next;
} piece_reader;

static const char *read_piece(lua_State *L, void *data, size_t *length) {
    (void)L;
    piece_reader *reader = data;
    while (reader->next < 2 && reader->lengths[reader->next] == 0) reader->next++;
    if (reader->next == 2) {
        *length = 0;
        return NULL;
    }
    *length = reader->lengths[reader->next];
    return reader->pieces[reader->next++];
}

static int compile_filter(lua_State *L, protected_call *call, const char *head) {
    char name[sizeof call->S->chunk_name + 1];
    snprintf(name, sizeof name, "@%s", call->S->chunk_name);
    piece_reader reader = {.pieces = {head, call->source}, .lengths = {strlen(head), call->length}};
    return lua_load(L, read_piece, &reader, name, "t");
}

static int load_filter(lua_State *L) {
    protected_call *call = lua_touserdata(L, 1);
    clua_state *S = call->S;
    lua_newtable(L);
    if (compile_filter(L, call, "local record, job = ... return ") != LUA_OK) {
        int status = compile_filter(L, call, "local record, job = ... ");
        // Both errors lie on the stack; the one of the form that was meant is told.
        if (status != LUA_OK) {
            if (!call->is_body) lua_pop(L, 1);
            return lua_error(L);
        }
        lua_remove(L, -2);
    }
    sandbox_push_filter_environment(L);
    lua_setupvalue(L, -2, 1);
    lua_rawseti(L, 2, 1);
    S->functions = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

clua_status clua_load_filter(
    clua_state *S, const char *source, size_t length, bool is_body, const char *chunk_name, clua_limits limits) {
    protected_call call = {.source = source, .length = length, .is_body = is_body};
    snprintf(S->chunk_name, sizeof S->chunk_name, "%s", chunk_name);
    limits_begin(S, limits);
    return enter(S, load_filter, &call);
}

static void push_function(lua_State *L, int function) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, state_of(L)->functions);
    lua_rawgeti(L, -1, function);
    lua_remove(L, -2);
}

static void push_argument(lua_State *L, const clua_argument *argument) {
    switch (argument->kind) {
    case CLUA_ARGUMENT_HANDLE: handles_push(L, &argument->handle); break;
    case CLUA_ARGUMENT_TABLE:
        handles_push(L, &argument->handle);
        handles_to_table(L, -1, 1);
        lua_remove(L, -2);
        break;
    case CLUA_ARGUMENT_STRING: lua_pushlstring(L, argument->bytes, argument->length); break;
    case CLUA_ARGUMENT_VALUE: handles_push_value(L, &argument->value); break;
    default: lua_pushnil(L);
    }
}

static void append_text(lua_State *L, int index, const char *expected) {
    clua_state *S = state_of(L);
    clua_value value = {0};
    size_t length;
    clua_handle *handle = handles_test(L, index);
    if (handle && handle->kind == CLUA_HANDLE_NUMBER) {
        S->callbacks.append_json(S, S->context, handle, &value);
        handles_check(L, &value);
        output_append(L, "", 0);
    } else if (lua_type(L, index) == LUA_TSTRING || lua_isinteger(L, index)) {
        const char *text = lua_tolstring(L, index, &length);
        output_append(L, text, length);
    } else {
        luaL_error(L, "returned a %s, expected %s", luaL_typename(L, index), expected);
    }
}

static void append_strings(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TTABLE)
        luaL_error(L, "returned a %s, expected a table of strings such as {\"invoice\"}", luaL_typename(L, index));
    lua_Integer count = (lua_Integer)lua_rawlen(L, index);
    if (count > CLUA_KEYS_MAX) luaL_error(L, "returned more than %d keys", CLUA_KEYS_MAX);
    lua_pushnil(L);
    for (lua_Integer entries = 0; lua_next(L, index); lua_pop(L, 1)) {
        if (++entries > count || !lua_isinteger(L, -2)) luaL_error(L, "returned a table that is not a sequence of strings");
    }
    for (lua_Integer position = 1; position <= count; position++) {
        size_t length;
        if (lua_rawgeti(L, index, position) != LUA_TSTRING)
            luaL_error(L, "returned a table whose element %d is a %s, expected a string", (int)position, luaL_typename(L, -1));
        const char *text = lua_tolstring(L, -1, &length);
        uint32_t size = (uint32_t)length;
        output_append(L, (const char *)&size, sizeof size);
        output_append(L, text, length);
        lua_pop(L, 1);
    }
}

static void emit_events(lua_State *L, int index);
static void emit_one(lua_State *L, int index);

// What webhook_notification returned.
static void emit_records(lua_State *L, int index) {
    if (lua_isnil(L, index)) return;
    state_of(L)->records_max = CLUA_RECORDS_MAX;
    clua_handle *view = handles_test(L, index);
    bool isOne = false;
    if (view && view->kind == CLUA_HANDLE_VIEW) {
        clua_value value = {0};
        state_of(L)->callbacks.entry(state_of(L), state_of(L)->context, view, 0, false, &value);
        handles_check(L, &value);
        isOne = value.kind == CLUA_VALUE_BOOL && !value.integer;
    } else if (lua_istable(L, index)) {
        lua_pushnil(L);
        if (lua_next(L, index)) {
            isOne = lua_type(L, -2) == LUA_TSTRING;
            lua_pop(L, 2);
        }
    }
    if (isOne) emit_one(L, index);
    else emit_events(L, index);
}

// What a filter returned. Everything but one boolean or nil is an error rather than a guess.
static void take_flag(lua_State *L, int results) {
    if (results == 0) luaL_error(L, "ended without a result; return true or false");
    if (results > 1) luaL_error(L, "returned %d values, expected one: true or false", results);
    if (!lua_isboolean(L, 2) && !lua_isnil(L, 2)) luaL_error(L, "returned a %s, expected true or false", luaL_typename(L, 2));
    state_of(L)->result_flag = lua_toboolean(L, 2);
}

static int call_function(lua_State *L) {
    protected_call *call = lua_touserdata(L, 1);
    clua_state *S = call->S;
    luaL_checkstack(L, call->count + 8, "too many arguments");
    push_function(L, call->function);
    for (int index = 0; index < call->count; index++) push_argument(L, &call->arguments[index]);
    lua_call(L, call->count, call->result == CLUA_RESULT_FLAG ? LUA_MULTRET : 1);
    if (call->result == CLUA_RESULT_FLAG) {
        take_flag(L, lua_gettop(L) - 1);
        return 0;
    }
    encode_begin(S, 1024 * 1024);
    S->result_is_nil = call->result == CLUA_RESULT_OPTIONAL_TEXT && lua_isnil(L, 2);
    if (S->result_is_nil) return 0;
    if (call->result == CLUA_RESULT_STRINGS) {
        append_strings(L, 2);
    } else if (call->result == CLUA_RESULT_RECORDS) {
        emit_records(L, 2);
    } else {
        append_text(L, 2, call->result == CLUA_RESULT_TEXT ? "a string or an integer" : "a string, an integer or nil");
    }
    return 0;
}

clua_status clua_call(
    clua_state *S, int function, const clua_argument *arguments, int count, clua_result result, clua_limits limits) {
    protected_call call = {.function = function, .arguments = arguments, .count = count, .result = result};
    limits_begin(S, limits);
    return enter(S, call_function, &call);
}

static void check_emitted(lua_State *L, clua_emission what, const char *bytes, size_t length, clua_handle *handle) {
    clua_state *S = state_of(L);
    clua_value value = {0};
    S->callbacks.emit(S, S->context, what, bytes, length, handle, &value);
    handles_check(L, &value);
}

static void emit_encoded(lua_State *L, int index, clua_emission what, const char *name, size_t bytes_max) {
    clua_state *S = state_of(L);
    encode_begin(S, bytes_max);
    encode_value(L, index, 1, 0, name);
    check_emitted(L, what, S->output, S->output_length, NULL);
}

static void emit_one(lua_State *L, int index) {
    clua_handle *record = handles_test(L, index);
    if (record && record->kind == CLUA_HANDLE_VIEW) {
        check_emitted(L, CLUA_EMIT_RECORD, NULL, 0, record);
    } else {
        emit_encoded(L, index, CLUA_EMIT_DERIVED, "events", state_of(L)->memory_max);
    }
}

static void emit_events(lua_State *L, int index) {
    clua_state *S = state_of(L);
    clua_handle *view = handles_test(L, index);
    if (view && view->kind == CLUA_HANDLE_VIEW) {
        check_emitted(L, CLUA_EMIT_RECORDS, NULL, 0, view);
        return;
    }
    if (!lua_istable(L, index))
        luaL_error(L, "returned events of type %s, expected an array of the answer or a table", luaL_typename(L, index));
    lua_Integer count = (lua_Integer)lua_rawlen(L, index), entries = 0;
    if (count > S->records_max) luaL_error(L, "returned %d events, more than %d a page", (int)count, S->records_max);
    lua_pushnil(L);
    for (; lua_next(L, index); lua_pop(L, 1)) {
        if (++entries > count || !lua_isinteger(L, -2)) luaL_error(L, "returned events that are not a sequence without holes");
    }
    for (lua_Integer position = 1; position <= count; position++) {
        lua_rawgeti(L, index, position);
        clua_handle *record = handles_test(L, -1);
        if ((record && record->kind == CLUA_HANDLE_VIEW) || lua_istable(L, -1)) {
            emit_one(L, lua_gettop(L));
        } else {
            luaL_error(L, "returned event %d as a %s, expected an object of the answer or a table", (int)position,
                luaL_typename(L, -1));
        }
        lua_pop(L, 1);
    }
}

static void emit_warnings(lua_State *L, int index) {
    lua_Integer count = lua_istable(L, index) ? (lua_Integer)lua_rawlen(L, index) : -1;
    if (count < 0 || count > 100) luaL_error(L, "returned warnings that are not a table of at most 100 strings");
    for (lua_Integer position = 1; position <= count; position++) {
        size_t length;
        if (lua_rawgeti(L, index, position) != LUA_TSTRING) luaL_error(L, "returned a warning that is not a string");
        const char *text = lua_tolstring(L, -1, &length);
        check_emitted(L, CLUA_EMIT_WARNING, text, length, NULL);
        lua_pop(L, 1);
    }
}

static void emit_result(lua_State *L, int index) {
    if (!lua_istable(L, index)) {
        luaL_error(L, "returned a %s, expected a table { events = ..., next_poll = ..., can_poll_more = ... }",
            luaL_typename(L, index));
    }
    bool hasEvents = false;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        int value = lua_gettop(L);
        if (strcmp(key, "events") == 0) {
            hasEvents = true;
            emit_events(L, value);
        } else if (strcmp(key, "next_poll") == 0) {
            // 64 KB: PollLimits.cursorBytesMax.
            emit_encoded(L, value, CLUA_EMIT_NEXT, "next_poll", 64 * 1024);
        } else if (strcmp(key, "can_poll_more") == 0) {
            if (!lua_isboolean(L, value)) luaL_error(L, "returned can_poll_more as a %s, expected true or false", luaL_typename(L, value));
            if (lua_toboolean(L, value)) check_emitted(L, CLUA_EMIT_MORE, NULL, 0, NULL);
        } else if (strcmp(key, "warnings") == 0) {
            emit_warnings(L, value);
        } else if (strcmp(key, "epoch") == 0) {
            size_t length = 0;
            const char *text = lua_type(L, value) == LUA_TSTRING ? lua_tolstring(L, value, &length) : NULL;
            // Part of each dedup key: 1 KB in all, KeyedRecord.dedupKeyBytesMax.
            if (!text || length == 0 || length > 200) luaL_error(L, "returned an epoch that is no text of at most 200 bytes");
            check_emitted(L, CLUA_EMIT_EPOCH, text, length, NULL);
        } else {
            luaL_error(L, "returned an unknown key '%s'; known are events, next_poll, can_poll_more, epoch, warnings", key);
        }
        lua_settop(L, value - 1);
    }
    if (!hasEvents) luaL_error(L, "returned no events; return an empty table where there are none");
}

// One leg of a poll: up to the next request or to its end.
static int run_coroutine(lua_State *L) {
    protected_call *call = lua_touserdata(L, 1);
    clua_state *S = call->S;
    int results = 0;
    if (!S->coroutine) {
        S->coroutine = lua_newthread(L);
        S->coroutine_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        push_function(L, call->function);
    }
    luaL_checkstack(L, call->count + 8, "too many arguments");
    for (int index = 0; index < call->count; index++) push_argument(L, &call->arguments[index]);
    lua_State *coroutine = S->coroutine;
    int moved = lua_gettop(L) - 1;
    if (!lua_checkstack(coroutine, moved + 4)) return luaL_error(L, "too many arguments");
    lua_xmove(L, coroutine, moved);
    limits_enter(S, coroutine);
    call->resume_status = lua_resume(coroutine, L, call->count, &results);
    S->running = L;
    if (call->resume_status != LUA_OK) return 0;
    lua_settop(L, 0);
    if (!lua_checkstack(L, results + 1)) return luaL_error(L, "returned too many values");
    lua_xmove(coroutine, L, results);
    lua_settop(L, 1);
    if (S->records_max != CLUA_ONE_VALUE) {
        emit_result(L, 1);
    } else if (!lua_isnil(L, 1)) {
        emit_encoded(L, 1, CLUA_EMIT_NEXT, "result", 64 * 1024);
    }
    return 0;
}

static clua_status run(clua_state *S, protected_call *call) {
    call->resume_status = LUA_OK;
    // limits_enter inside sets the hook of the coroutine; the deadline it sets anew is the same to within microseconds.
    clua_status status = enter(S, run_coroutine, call);
    if (status != CLUA_OK) return status;
    if (call->resume_status == LUA_OK) return CLUA_OK;
    if (call->resume_status == LUA_YIELD) return CLUA_YIELD;
    return finish_error(S, S->coroutine, call->resume_status);
}

clua_status clua_start(
    clua_state *S, int function, const clua_argument *arguments, int count, int records_max, clua_limits limits) {
    protected_call call = {.function = function, .arguments = arguments, .count = count};
    S->records_max = records_max;
    limits_begin(S, limits);
    return run(S, &call);
}

clua_status clua_resume(clua_state *S, const clua_argument *argument) {
    protected_call call = {.arguments = argument, .count = 1};
    return run(S, &call);
}

static int collect(lua_State *L) {
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}

void clua_end_call(clua_state *S) {
    S->epoch++;
    if (S->coroutine) {
        // Dropped, not closed: closing would run the connector's __close handlers.
        luaL_unref(S->main, LUA_REGISTRYINDEX, S->coroutine_ref);
        S->coroutine = NULL;
        S->coroutine_ref = LUA_NOREF;
    }
    if (S->output_capacity > CLUA_SCRATCH_KEPT_BYTES) {
        free(S->output);
        S->output = NULL;
        S->output_capacity = S->output_length = 0;
    }
    if (S->scratch_capacity > CLUA_SCRATCH_KEPT_BYTES) {
        free(S->scratch);
        S->scratch = NULL;
        S->scratch_capacity = 0;
    }
    if (S->memory_used > 2 * CLUA_SCRATCH_KEPT_BYTES) {
        lua_pushcfunction(S->main, collect);
        lua_pcall(S->main, 0, 0, 0);
        lua_settop(S->main, 0);
    }
}

const char *clua_message(const clua_state *S) { return S->message; }
bool clua_result_is_nil(const clua_state *S) { return S->result_is_nil; }
bool clua_result_flag(const clua_state *S) { return S->result_flag; }
size_t clua_memory_used(const clua_state *S) { return S->memory_used; }

const char *clua_output(const clua_state *S, size_t *length) {
    *length = S->output_length;
    return S->output;
}

char *clua_scratch(clua_state *S, size_t length) {
    if (length > S->memory_max) return NULL;
    if (length > S->scratch_capacity || !S->scratch) {
        size_t capacity = length < 1024 ? 1024 : length;
        char *grown = realloc(S->scratch, capacity);
        if (!grown) return NULL;
        S->scratch = grown;
        S->scratch_capacity = capacity;
    }
    return S->scratch;
}
