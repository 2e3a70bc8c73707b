// What a connector can reach: pure functions only. No files, no clock, no randomness, no code from text, no threads.
//
// Library functions that loop in C, where no hook fires, are bounded here: they are given plain tables only, and what
// they do is charged against the instruction limit first.
#include <string.h>

#include "internal.h"

static int finish_pcall(lua_State *L, int status, lua_KContext extra) {
    limits_rethrow(L, status);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, 0);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - (int)extra;
}

// Like Lua's, but an error that ends the call for good is not caught.
static int protected_call_function(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish_pcall);
    return finish_pcall(L, status, 0);
}

// The stack: function, handler, true, results or an error.
static int finish_xpcall(lua_State *L, int status, lua_KContext extra) {
    limits_rethrow(L, status);
    if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)extra;
    lua_pushvalue(L, 2);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

// The handler runs after the stack was unwound: Lua would run it without hooks if the error came from one.
static int protected_call_handled(lua_State *L) {
    int count = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    int status = lua_pcallk(L, count - 2, LUA_MULTRET, 0, 2, finish_xpcall);
    return finish_xpcall(L, status, 2);
}

// Lua runs finalizers without hooks: an endless one could not be stopped.
static int set_metatable(lua_State *L) {
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL) return luaL_error(L, "__gc is not available to connectors");
        lua_pop(L, 1);
    }
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int read_only(lua_State *L) {
    if (lua_type(L, 2) == LUA_TSTRING)
        return luaL_error(L, "'%s' is not a local variable; write: local %s = ...", lua_tostring(L, 2), lua_tostring(L, 2));
    return luaL_error(L, "globals cannot be set");
}

// Replaces the table at the top by an empty one through which it can be read but not changed.
static void make_read_only(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, read_only);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

static void check_plain_table(lua_State *L, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    static const char *const events[] = {"__index", "__newindex", "__len"};
    for (int event = 0; event < 3; event++) {
        if (luaL_getmetafield(L, index, events[event]) != LUA_TNIL)
            luaL_error(L, "this function takes tables without %s only", events[event]);
    }
}

static int call_original(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

// Elements move only where a position was given.
static int table_insert(lua_State *L) {
    check_plain_table(L, 1);
    limits_charge(L, lua_gettop(L) > 2 ? 4 + lua_rawlen(L, 1) / 8 : 4);
    return call_original(L);
}

static int table_remove(lua_State *L) {
    check_plain_table(L, 1);
    limits_charge(L, lua_gettop(L) > 1 ? 4 + lua_rawlen(L, 1) / 8 : 4);
    return call_original(L);
}

static int table_sort(lua_State *L) {
    check_plain_table(L, 1);
    uint64_t count = lua_rawlen(L, 1), levels = 1;
    while (count >> levels) levels++;
    limits_charge(L, 4 + count * levels);
    return call_original(L);
}

static int table_range(lua_State *L, int firstIndex, int lastIndex) {
    lua_Integer first = luaL_optinteger(L, firstIndex, 1);
    lua_Integer last = luaL_optinteger(L, lastIndex, (lua_Integer)lua_rawlen(L, 1));
    if (first <= last) {
        uint64_t count = (uint64_t)last - (uint64_t)first;
        if (count > 1000000) return luaL_error(L, "a range of more than 1000000 elements");
        limits_charge(L, 4 + count);
    }
    return call_original(L);
}

static int table_concat(lua_State *L) {
    check_plain_table(L, 1);
    return table_range(L, 3, 4);
}

static int table_unpack(lua_State *L) {
    check_plain_table(L, 1);
    return table_range(L, 2, 3);
}

static int table_move(lua_State *L) {
    check_plain_table(L, 1);
    if (!lua_isnoneornil(L, 5)) check_plain_table(L, 5);
    return table_range(L, 2, 3);
}

static int string_repeat(lua_State *L) {
    size_t length, separator = 0;
    luaL_checklstring(L, 1, &length);
    lua_Integer count = luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &separator);
    // Lua counts up to any number where there is nothing to repeat.
    if (count <= 0 || length + separator == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if ((uint64_t)count > state_of(L)->memory_max / (length + separator))
        return luaL_error(L, "the repeated string would be larger than the memory limit");
    limits_charge(L, 1 + (uint64_t)count * (length + separator) / 16);
    return call_original(L);
}

// Lua's own functions that read their first argument to its end.
static int string_scan(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING) limits_charge(L, 1 + lua_rawlen(L, 1) / 16);
    return call_original(L);
}

static void copy_fields(lua_State *L, int from, const char *const *names) {
    for (; *names; names++) {
        lua_getfield(L, from, *names);
        lua_setfield(L, -2, *names);
    }
}

static void wrap_field(lua_State *L, const char *name, lua_CFunction function) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

static void add_string(lua_State *L, int environment) {
    static const char *const kept[] = {"byte", "char", "format", "len", "lower", "upper", "rep", "reverse", "sub", NULL};
    luaL_requiref(L, "string", luaopen_string, 0);
    lua_newtable(L);
    copy_fields(L, -2, kept);
    luaL_setfuncs(L, pattern_functions, 0);
    wrap_field(L, "rep", string_repeat);
    // Methods of strings come from the same table, and their metatable cannot be reached.
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    make_read_only(L);
    lua_setfield(L, environment, "string");
    lua_pop(L, 1);
}

static void add_table(lua_State *L, int environment) {
    static const char *const kept[] = {"concat", "insert", "move", "pack", "remove", "sort", "unpack", NULL};
    luaL_requiref(L, "table", luaopen_table, 0);
    lua_newtable(L);
    copy_fields(L, -2, kept);
    wrap_field(L, "concat", table_concat);
    wrap_field(L, "insert", table_insert);
    wrap_field(L, "move", table_move);
    wrap_field(L, "remove", table_remove);
    wrap_field(L, "sort", table_sort);
    wrap_field(L, "unpack", table_unpack);
    make_read_only(L);
    lua_setfield(L, environment, "table");
    lua_pop(L, 1);
}

static void add_rest(lua_State *L, int environment) {
    static const char *const math[] = {"abs", "ceil", "cos", "exp", "floor", "fmod", "huge", "log", "max", "maxinteger", "min",
        "mininteger", "modf", "pi", "sin", "sqrt", "tan", "tointeger", "type", "ult", NULL};
    static const char *const utf8[] = {"char", "charpattern", "codepoint", "codes", "len", "offset", NULL};
    luaL_requiref(L, "math", luaopen_math, 0);
    lua_newtable(L);
    copy_fields(L, -2, math);
    make_read_only(L);
    lua_setfield(L, environment, "math");
    luaL_requiref(L, "utf8", luaopen_utf8, 0);
    lua_newtable(L);
    copy_fields(L, -2, utf8);
    wrap_field(L, "codepoint", string_scan);
    wrap_field(L, "len", string_scan);
    wrap_field(L, "offset", string_scan);
    make_read_only(L);
    lua_setfield(L, environment, "utf8");
    lua_pop(L, 2);
}

void sandbox_open(lua_State *L) {
    static const char *const base[] = {"assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen",
        "rawset", "select", "tonumber", "tostring", "type", "_VERSION", NULL};
    static const luaL_Reg own[] = {{"pcall", protected_call_function}, {"xpcall", protected_call_handled},
        {"setmetatable", set_metatable}, {NULL, NULL}};
    luaL_requiref(L, "_G", luaopen_base, 0);
    lua_newtable(L);
    int environment = lua_gettop(L);
    copy_fields(L, environment - 1, base);
    wrap_field(L, "tonumber", string_scan);
    luaL_setfuncs(L, own, 0);
    luaL_setfuncs(L, helper_functions, 0);
    luaL_setfuncs(L, handle_functions, 0);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, environment, "json_null");
    add_string(L, environment);
    add_table(L, environment);
    add_rest(L, environment);
    make_read_only(L);
    state_of(L)->environment = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, 0);
}

void sandbox_push_filter_environment(lua_State *L) {
    static const char *const kept[] = {"assert", "error", "ipairs", "json_null", "math", "next", "pairs", "pcall", "select", "string",
        "table", "tonumber", "tostring", "type", "utf8", NULL};
    lua_rawgeti(L, LUA_REGISTRYINDEX, state_of(L)->environment);
    int sandbox = lua_gettop(L);
    lua_newtable(L);
    copy_fields(L, sandbox, kept);
    make_read_only(L);
    lua_remove(L, sandbox);
}
