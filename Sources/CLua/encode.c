// Lua values as JSON. Keys in order of their bytes, integers exact, floats shortest; a handle's bytes as they are.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

void encode_begin(clua_state *S, size_t bytes_max) {
    S->output_length = 0;
    S->output_max = bytes_max;
    S->output_full = false;
}

void clua_append(clua_state *S, const char *bytes, size_t length) {
    if (S->output_full) return;
    if (length > S->output_max || S->output_length > S->output_max - length) {
        S->output_full = true;
        return;
    }
    size_t needed = S->output_length + length;
    if (needed > S->output_capacity) {
        size_t capacity = S->output_capacity ? S->output_capacity : 256;
        while (capacity < needed) capacity *= 2;
        char *grown = realloc(S->output, capacity);
        if (!grown) {
            S->output_full = true;
            return;
        }
        S->output = grown;
        S->output_capacity = capacity;
    }
    memcpy(S->output + S->output_length, bytes, length);
    S->output_length = needed;
}

void output_append(lua_State *L, const char *bytes, size_t length) {
    clua_state *S = state_of(L);
    if (length) clua_append(S, bytes, length);
    if (S->output_full) luaL_error(L, "more than %d bytes of JSON", (int)S->output_max);
}

static int fail(lua_State *L, const char *what, const char *problem) { return luaL_error(L, "%s: %s", what, problem); }

static void append_string(lua_State *L, int index, const char *what) {
    clua_state *S = state_of(L);
    clua_value value = {0};
    size_t length;
    const char *bytes = lua_tolstring(L, index, &length);
    S->callbacks.append_string(S, S->context, bytes, length, &value);
    if (value.kind == CLUA_VALUE_ERROR) fail(L, what, "a string is not valid UTF-8");
    output_append(L, "", 0);
    limits_charge(L, 1 + length / 16);
}

static void append_number(lua_State *L, int index, const char *what) {
    clua_state *S = state_of(L);
    if (lua_isinteger(L, index)) {
        char text[32];
        int length = snprintf(text, sizeof text, "%lld", (long long)lua_tointeger(L, index));
        output_append(L, text, (size_t)length);
        return;
    }
    double number = lua_tonumber(L, index);
    if (!isfinite(number)) fail(L, what, "a number is not finite, which JSON cannot hold");
    S->callbacks.append_float(S, S->context, number);
    output_append(L, "", 0);
}

static void append_function(lua_State *L, int index, int functions, const char *what) {
    if (!functions) fail(L, what, "a function cannot be written as JSON");
    lua_Debug record;
    char text[96];
    lua_pushvalue(L, index);
    lua_getinfo(L, ">S", &record);
    lua_Integer number = (lua_Integer)lua_rawlen(L, functions) + 1;
    lua_pushvalue(L, index);
    lua_rawseti(L, functions, number);
    int length = snprintf(text, sizeof text, "{\"$function\":%lld,\"line\":%d}", (long long)number, record.linedefined);
    output_append(L, text, (size_t)length);
}

static void append_array(lua_State *L, int index, lua_Integer count, int depth, int functions, const char *what) {
    output_append(L, "[", 1);
    for (lua_Integer position = 1; position <= count; position++) {
        if (position > 1) output_append(L, ",", 1);
        lua_rawgeti(L, index, position);
        encode_value(L, -1, depth + 1, functions, what);
        lua_pop(L, 1);
    }
    output_append(L, "]", 1);
}

typedef struct { const char *bytes; size_t length; } object_key;

static int compare_keys(const void *left, const void *right) {
    const object_key *a = left, *b = right;
    size_t common = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->bytes, b->bytes, common);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static void append_object(lua_State *L, int index, lua_Integer count, int depth, int functions, const char *what) {
    // A userdata, so that an error does not leak it. The strings stay put: they are keys of the table.
    object_key *keys = lua_newuserdatauv(L, (size_t)count * sizeof *keys, 0);
    lua_Integer filled = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        keys[filled].bytes = lua_tolstring(L, -1, &keys[filled].length);
        filled++;
    }
    qsort(keys, (size_t)count, sizeof *keys, compare_keys);
    output_append(L, "{", 1);
    for (lua_Integer position = 0; position < count; position++) {
        if (position > 0) output_append(L, ",", 1);
        lua_pushlstring(L, keys[position].bytes, keys[position].length);
        if (functions && strcmp(keys[position].bytes, "$function") == 0) fail(L, what, "the key $function is taken");
        append_string(L, -1, what);
        output_append(L, ":", 1);
        lua_rawget(L, index);
        encode_value(L, -1, depth + 1, functions, what);
        lua_pop(L, 1);
    }
    output_append(L, "}", 1);
    lua_pop(L, 1);
}

static bool has_array_metatable(lua_State *L, int index) {
    if (!lua_getmetatable(L, index)) return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, state_of(L)->array_metatable);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static void append_table(lua_State *L, int index, int depth, int functions, const char *what) {
    if (depth > CLUA_DEPTH_MAX) fail(L, what, "a table is nested deeper than 64, or contains itself");
    luaL_checkstack(L, 12, "nested too deeply");
    lua_Integer count = 0, strings = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (++count % 64 == 0) limits_charge(L, 64);
        if (lua_type(L, -1) == LUA_TSTRING) strings++;
    }
    bool isArray = has_array_metatable(L, index);
    if (count == 0) {
        output_append(L, isArray ? "[]" : "{}", 2);
    } else if (strings == count && !isArray) {
        append_object(L, index, count, depth, functions, what);
    } else if (strings == 0 && (lua_Integer)lua_rawlen(L, index) == count) {
        append_array(L, index, count, depth, functions, what);
    } else {
        fail(L, what, "a table is neither a sequence without holes nor an object with string keys only");
    }
}

void encode_value(lua_State *L, int index, int depth, int functions, const char *what) {
    clua_state *S = state_of(L);
    index = lua_absindex(L, index);
    limits_charge(L, 2);
    switch (lua_type(L, index)) {
    case LUA_TNIL: output_append(L, "null", 4); break;
    case LUA_TBOOLEAN: lua_toboolean(L, index) ? output_append(L, "true", 4) : output_append(L, "false", 5); break;
    case LUA_TNUMBER: append_number(L, index, what); break;
    case LUA_TSTRING: append_string(L, index, what); break;
    case LUA_TTABLE: append_table(L, index, depth, functions, what); break;
    case LUA_TFUNCTION: append_function(L, index, functions, what); break;
    case LUA_TLIGHTUSERDATA: output_append(L, "null", 4); break;
    case LUA_TUSERDATA: {
        clua_value value = {0};
        clua_handle *handle = handles_test(L, index);
        S->callbacks.append_json(S, S->context, handle, &value);
        handles_check(L, &value);
        output_append(L, "", 0);
        limits_charge(L, handle->length / 16);
        break;
    }
    default: fail(L, what, "a value of this type cannot be written as JSON");
    }
}

int encode_json(lua_State *L) {
    clua_state *S = state_of(L);
    luaL_checkany(L, 1);
    encode_begin(S, S->memory_max);
    encode_value(L, 1, 1, 0, "json_encode");
    lua_pushlstring(L, S->output, S->output_length);
    return 1;
}
