// Handles: what Lua sees of objects that live in Swift. Read-only, valid during one call.
#include <string.h>

#include "internal.h"

enum { BYTES_PER_STEP = 16 };

static clua_handle *valid(lua_State *L, int index) {
    clua_handle *handle = lua_touserdata(L, index);
    if (handle->epoch != state_of(L)->epoch)
        luaL_error(L, "this value belongs to an earlier call; keep what is needed in next_poll, as strings and numbers");
    return handle;
}

clua_handle *handles_test(lua_State *L, int index) {
    // Full userdata are ours alone: the connector cannot make any.
    if (lua_type(L, index) != LUA_TUSERDATA) return NULL;
    return valid(L, index);
}

void handles_push(lua_State *L, const clua_handle *handle) {
    clua_state *S = state_of(L);
    clua_handle *copy = lua_newuserdatauv(L, sizeof *copy, 0);
    *copy = *handle;
    copy->epoch = S->epoch;
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->metatables[handle->kind]);
    lua_setmetatable(L, -2);
}

void handles_check(lua_State *L, const clua_value *value) {
    clua_state *S = state_of(L);
    if (value->kind == CLUA_VALUE_STOP) limits_trip(L, TRIP_STOPPED);
    if (value->kind == CLUA_VALUE_ERROR) {
        luaL_where(L, 1);
        lua_pushlstring(L, S->scratch, value->length);
        lua_concat(L, 2);
        lua_error(L);
    }
    if (value->scanned >= BYTES_PER_STEP) limits_charge(L, value->scanned / BYTES_PER_STEP);
}

void handles_push_value(lua_State *L, const clua_value *value) {
    clua_state *S = state_of(L);
    handles_check(L, value);
    switch (value->kind) {
    case CLUA_VALUE_NULL: lua_pushlightuserdata(L, NULL); break;
    case CLUA_VALUE_BOOL: lua_pushboolean(L, value->integer != 0); break;
    case CLUA_VALUE_INTEGER: lua_pushinteger(L, value->integer); break;
    case CLUA_VALUE_FLOAT: lua_pushnumber(L, value->number); break;
    case CLUA_VALUE_STRING: lua_pushlstring(L, value->length ? S->scratch : "", value->length); break;
    case CLUA_VALUE_HANDLE: handles_push(L, &value->handle); break;
    default: lua_pushnil(L);
    }
}

static int handle_index(lua_State *L) {
    clua_state *S = state_of(L);
    clua_handle *handle = valid(L, 1);
    clua_value value = {0};
    int isInteger = 0;
    if (lua_type(L, 2) == LUA_TSTRING) {
        size_t length;
        const char *key = lua_tolstring(L, 2, &length);
        S->callbacks.member(S, S->context, handle, key, length, &value);
    } else {
        lua_Integer position = lua_tointegerx(L, 2, &isInteger);
        if (isInteger) S->callbacks.element(S, S->context, handle, position, &value);
    }
    handles_push_value(L, &value);
    return 1;
}

static int handle_length(lua_State *L) {
    clua_state *S = state_of(L);
    clua_value value = {0};
    S->callbacks.count(S, S->context, valid(L, 1), &value);
    handles_push_value(L, &value);
    return 1;
}

static void push_entry(lua_State *L, clua_handle *handle, lua_Integer position, bool wantsKey) {
    clua_state *S = state_of(L);
    clua_value value = {0};
    S->callbacks.entry(S, S->context, handle, position, wantsKey, &value);
    handles_push_value(L, &value);
}

static int handle_next(lua_State *L) {
    clua_handle *handle = valid(L, lua_upvalueindex(1));
    lua_Integer position = lua_tointeger(L, lua_upvalueindex(2)) + 1;
    lua_pushinteger(L, position);
    lua_replace(L, lua_upvalueindex(2));
    push_entry(L, handle, position, true);
    if (lua_isnil(L, -1)) return 1;
    push_entry(L, handle, position, false);
    return 2;
}

static int handle_pairs(lua_State *L) {
    valid(L, 1);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, handle_next, 2);
    return 1;
}

static int handle_text(lua_State *L) {
    clua_state *S = state_of(L);
    clua_handle *handle = valid(L, 1);
    clua_value value = {0};
    encode_begin(S, S->memory_max);
    S->callbacks.append_json(S, S->context, handle, &value);
    handles_check(L, &value);
    output_append(L, "", 0);
    lua_pushlstring(L, S->output_length ? S->output : "", S->output_length);
    return 1;
}

static int handle_readonly(lua_State *L) {
    return luaL_error(L, "a value of a request or an answer cannot be changed; make a copy with json_table(value)");
}

// A number with more digits than Lua holds: text in concatenations, the nearest float in arithmetic.
static int number_concat(lua_State *L) {
    for (int index = 1; index <= 2; index++) luaL_tolstring(L, index, NULL);
    lua_concat(L, 2);
    return 1;
}

static lua_Number number_value(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TUSERDATA) return luaL_checknumber(L, index);
    lua_pushcfunction(L, handle_text);
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    lua_Number number = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

static int number_arithmetic(lua_State *L) {
    int operation = (int)lua_tointeger(L, lua_upvalueindex(1));
    lua_pushnumber(L, number_value(L, 1));
    lua_pushnumber(L, operation == LUA_OPUNM ? 0 : number_value(L, 2));
    if (operation == LUA_OPUNM) lua_pop(L, 1);
    lua_arith(L, operation);
    return 1;
}

static int number_less(lua_State *L) {
    lua_pushboolean(L, number_value(L, 1) < number_value(L, 2));
    return 1;
}

static int number_less_equal(lua_State *L) {
    lua_pushboolean(L, number_value(L, 1) <= number_value(L, 2));
    return 1;
}

static int number_equal(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_pushboolean(L, lua_rawequal(L, -1, -2));
    return 1;
}

static void add_number_methods(lua_State *L) {
    static const struct { const char *name; int operation; } operations[] = {
        {"__add", LUA_OPADD}, {"__sub", LUA_OPSUB}, {"__mul", LUA_OPMUL}, {"__div", LUA_OPDIV},
        {"__mod", LUA_OPMOD}, {"__pow", LUA_OPPOW}, {"__idiv", LUA_OPIDIV}, {"__unm", LUA_OPUNM},
    };
    for (size_t index = 0; index < sizeof operations / sizeof *operations; index++) {
        lua_pushinteger(L, operations[index].operation);
        lua_pushcclosure(L, number_arithmetic, 1);
        lua_setfield(L, -2, operations[index].name);
    }
    static const luaL_Reg methods[] = {
        {"__concat", number_concat}, {"__lt", number_less}, {"__le", number_less_equal}, {"__eq", number_equal}, {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
}

void handles_open(lua_State *L) {
    static const luaL_Reg methods[] = {{"__index", handle_index}, {"__len", handle_length}, {"__pairs", handle_pairs},
        {"__tostring", handle_text}, {"__newindex", handle_readonly}, {NULL, NULL}};
    static const char *const names[CLUA_HANDLE_KINDS] = {"json", "json number", "request", "reply", "headers", "job"};
    clua_state *S = state_of(L);
    for (int kind = 0; kind < CLUA_HANDLE_KINDS; kind++) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        if (kind == CLUA_HANDLE_NUMBER) add_number_methods(L);
        lua_pushstring(L, names[kind]);
        lua_setfield(L, -2, "__name");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        S->metatables[kind] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_newtable(L);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    S->array_metatable = luaL_ref(L, LUA_REGISTRYINDEX);
}

static bool is_array(clua_handle *handle, lua_State *L) {
    clua_state *S = state_of(L);
    clua_value value = {0};
    S->callbacks.entry(S, S->context, handle, 0, true, &value);
    handles_check(L, &value);
    return value.kind == CLUA_VALUE_BOOL && value.integer != 0;
}

// Replaces nothing: pushes the value at `index` as Lua tables all the way down.
void handles_to_table(lua_State *L, int index, int depth) {
    index = lua_absindex(L, index);
    clua_handle *handle = handles_test(L, index);
    if (!handle || handle->kind != CLUA_HANDLE_VIEW) {
        lua_pushvalue(L, index);
        return;
    }
    if (depth > CLUA_DEPTH_MAX) luaL_error(L, "nested deeper than %d", CLUA_DEPTH_MAX);
    luaL_checkstack(L, 8, "nested too deeply");
    lua_newtable(L);
    int result = lua_gettop(L);
    if (is_array(handle, L)) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, state_of(L)->array_metatable);
        lua_setmetatable(L, result);
    }
    for (lua_Integer position = 1;; position++) {
        limits_charge(L, 4);
        push_entry(L, handle, position, true);
        if (lua_isnil(L, -1)) break;
        push_entry(L, handle, position, false);
        handles_to_table(L, -1, depth + 1);
        lua_remove(L, -2);
        lua_pushvalue(L, -2);
        // Where an object has a key twice, the first counts.
        if (lua_rawget(L, result) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_rawset(L, result);
        } else {
            lua_pop(L, 3);
        }
    }
    lua_settop(L, result);
}

static int json_table(lua_State *L) {
    luaL_checkany(L, 1);
    handles_to_table(L, 1, 1);
    return 1;
}

static int json_array(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, state_of(L)->array_metatable);
    lua_setmetatable(L, 1);
    return 1;
}

const luaL_Reg handle_functions[] = {
    {"json_table", json_table}, {"json_array", json_array}, {"json_encode", encode_json}, {NULL, NULL}};
