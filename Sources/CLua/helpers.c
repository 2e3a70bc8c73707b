// Functions that connectors call by name: requests and small helpers.
#include <string.h>

#include "internal.h"

static int call_helper(lua_State *L, clua_helper which, bool takesTwo) {
    clua_state *S = state_of(L);
    size_t firstLength, secondLength = 0;
    const char *first = luaL_checklstring(L, 1, &firstLength);
    const char *second = takesTwo ? luaL_checklstring(L, 2, &secondLength) : NULL;
    clua_value value = {0};
    limits_charge(L, 10 + (firstLength + secondLength) / 16);
    S->callbacks.helper(S, S->context, which, first, firstLength, second, secondLength, &value);
    handles_push_value(L, &value);
    return 1;
}

static int base64_encode(lua_State *L) { return call_helper(L, CLUA_HELPER_BASE64_ENCODE, false); }
static int hmac_sha256_hex(lua_State *L) { return call_helper(L, CLUA_HELPER_HMAC_SHA256_HEX, true); }
static int url_encode(lua_State *L) { return call_helper(L, CLUA_HELPER_URL_ENCODE, false); }
static int parse_http_date(lua_State *L) { return call_helper(L, CLUA_HELPER_PARSE_HTTP_DATE, false); }
static int json_decode(lua_State *L) { return call_helper(L, CLUA_HELPER_JSON_DECODE, false); }
static int poll_failure(lua_State *L) { return call_helper(L, CLUA_HELPER_POLL_FAILURE, true); }

static int answered(lua_State *L, int status, lua_KContext context) {
    (void)L, (void)status, (void)context;
    return 1;
}

// Leaves the request with Swift and suspends; the coroutine is resumed with the answer.
static int request(lua_State *L, const char *method) {
    clua_state *S = state_of(L);
    luaL_checktype(L, 1, LUA_TSTRING);
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    if (!lua_isyieldable(L))
        return luaL_error(L, "requests work in poll and in the webhook_ functions of a subscription only, and not inside a callback of sort or gsub or a metamethod");
    lua_createtable(L, 0, 3);
    lua_pushstring(L, method);
    lua_setfield(L, 3, "method");
    lua_pushvalue(L, 1);
    lua_setfield(L, 3, "url");
    if (!lua_isnil(L, 2)) {
        lua_pushvalue(L, 2);
        lua_setfield(L, 3, "options");
    }
    encode_begin(S, S->memory_max);
    encode_value(L, 3, 1, 0, "request");
    clua_value value = {0};
    S->callbacks.prepare_request(S, S->context, &value);
    handles_check(L, &value);
    lua_settop(L, 0);
    return lua_yieldk(L, 0, 0, answered);
}

static int get(lua_State *L) { return request(L, "GET"); }
static int post(lua_State *L) { return request(L, "POST"); }
static int put(lua_State *L) { return request(L, "PUT"); }
static int patch(lua_State *L) { return request(L, "PATCH"); }
static int delete_request(lua_State *L) { return request(L, "DELETE"); }

const luaL_Reg helper_functions[] = {{"get", get}, {"post", post}, {"put", put}, {"patch", patch},
    {"delete", delete_request}, {"base64_encode", base64_encode},
    {"hmac_sha256_hex", hmac_sha256_hex}, {"url_encode", url_encode}, {"parse_http_date", parse_http_date},
    {"json_decode", json_decode}, {"poll_failure", poll_failure}, {NULL, NULL}};
