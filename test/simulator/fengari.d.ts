/** The part of fengari that lua.ts calls. */
declare module 'fengari' {
  export interface LuaState { readonly l_G: object }
  type Bytes = Uint8Array

  export const lua: {
    LUA_OK: number
    LUA_REGISTRYINDEX: number
    LUA_TNIL: number
    LUA_TBOOLEAN: number
    LUA_TNUMBER: number
    LUA_TSTRING: number
    LUA_TTABLE: number
    lua_absindex (L: LuaState, index: number): number
    lua_createtable (L: LuaState, array: number, hash: number): void
    lua_error (L: LuaState): number
    lua_getfield (L: LuaState, index: number, name: Bytes): number
    lua_gettop (L: LuaState): number
    lua_newtable (L: LuaState): void
    lua_pcall (L: LuaState, args: number, results: number, handler: number): number
    lua_pop (L: LuaState, count: number): void
    lua_pushboolean (L: LuaState, value: boolean): void
    lua_pushcfunction (L: LuaState, fn: (L: LuaState) => number): void
    lua_pushinteger (L: LuaState, value: number): void
    lua_pushlstring (L: LuaState, value: Bytes, length: number): void
    lua_pushnumber (L: LuaState, value: number): void
    lua_rawset (L: LuaState, index: number): void
    lua_rawgeti (L: LuaState, index: number, n: number): number
    lua_rawseti (L: LuaState, index: number, n: number): void
    lua_setfield (L: LuaState, index: number, name: Bytes): void
    lua_setglobal (L: LuaState, name: Bytes): void
    lua_toboolean (L: LuaState, index: number): boolean
    lua_tolstring (L: LuaState, index: number): Bytes | null
    lua_tonumber (L: LuaState, index: number): number
    lua_type (L: LuaState, index: number): number
  }
  export const lauxlib: {
    luaL_loadstring (L: LuaState, text: Bytes): number
    luaL_newstate (): LuaState
    luaL_ref (L: LuaState, table: number): number
    luaL_tolstring (L: LuaState, index: number): Bytes
  }
  export const lualib: { luaL_openlibs (L: LuaState): void }
}
