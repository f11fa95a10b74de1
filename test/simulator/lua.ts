import { lauxlib, lua, lualib } from 'fengari'
import type { LuaState } from 'fengari'
import { ErrorReply, Status } from './redis-store.ts'
import type { Reply } from './redis-store.ts'

/** Runs a command of Redis for a script. */
export type Call = (command: string, args: readonly string[]) => Reply

const state = lauxlib.luaL_newstate()
/** Where each compiled script is in the registry. */
const compiled = new Map<string, number>()
let call: Call

lualib.luaL_openlibs(state)
run('unpack = table.unpack') // Redis has Lua 5.1
lua.lua_newtable(state)
for (const name of ['call', 'pcall'] as const) {
  lua.lua_pushcfunction(state, L => runCommand(L, name === 'pcall'))
  lua.lua_setfield(state, -2, bytesOf(name))
}
lua.lua_setglobal(state, bytesOf('redis'))
lua.lua_newtable(state)
lua.lua_pushcfunction(state, decodeJson)
lua.lua_setfield(state, -2, bytesOf('decode'))
lua.lua_setglobal(state, bytesOf('cjson'))

/**
 * Runs a script of Redis: the very text, on a virtual machine for Lua, with `redis.call` as given.
 * @throws ErrorReply
 */
export function runLua (text: string, keys: readonly string[], args: readonly string[], redisCall: Call): Reply {
  call = redisCall
  push(state, keys as Reply[])
  lua.lua_setglobal(state, bytesOf('KEYS'))
  push(state, args as Reply[])
  lua.lua_setglobal(state, bytesOf('ARGV'))
  return run(text)
}

function run (text: string): Reply {
  let script = compiled.get(text)
  if (script === undefined) {
    if (lauxlib.luaL_loadstring(state, bytesOf(text)) !== lua.LUA_OK) throw new Error(popString(state))
    script = lauxlib.luaL_ref(state, lua.LUA_REGISTRYINDEX)
    compiled.set(text, script)
  }
  lua.lua_rawgeti(state, lua.LUA_REGISTRYINDEX, script)
  if (lua.lua_pcall(state, 0, 1, 0) !== lua.LUA_OK) throw errorOf(state)
  const reply = read(state, -1)
  lua.lua_pop(state, 1)
  if (reply instanceof ErrorReply) throw reply
  return reply
}

function runCommand (L: LuaState, isProtected: boolean): number {
  let reply: Reply
  try {
    const [command = '', ...args] = Array.from({ length: lua.lua_gettop(L) }, (_, i) => argumentAt(L, i + 1))
    reply = call(command, args)
  } catch (error) {
    if (!(error instanceof ErrorReply)) throw error
    pushError(L, error.message)
    return isProtected ? 1 : lua.lua_error(L)
  }
  push(L, reply)
  return 1
}

/** `cjson.decode` */
function decodeJson (L: LuaState): number {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(argumentAt(L, 1), 'latin1').toString())
  } catch {
    pushError(L, 'not JSON')
    return lua.lua_error(L)
  }
  pushJson(L, value)
  return 1
}

function pushJson (L: LuaState, value: unknown): void {
  if (typeof value === 'number') return lua.lua_pushnumber(L, value)
  if (typeof value === 'boolean') return lua.lua_pushboolean(L, value)
  if (typeof value === 'string') return push(L, Buffer.from(value).toString('latin1'))
  lua.lua_createtable(L, 0, 0) // also for null, which is an object of its own in cjson
  const isList = Array.isArray(value)
  for (const [name, one] of Object.entries(value ?? {})) {
    if (isList) lua.lua_pushinteger(L, Number(name) + 1)
    else push(L, Buffer.from(name).toString('latin1'))
    pushJson(L, one)
    lua.lua_rawset(L, -3)
  }
}

function argumentAt (L: LuaState, index: number): string {
  const type = lua.lua_type(L, index)
  if (type !== lua.LUA_TSTRING && type !== lua.LUA_TNUMBER) throw new ErrorReply('ERR arguments must be strings or integers')
  return textOf(lua.lua_tolstring(L, index))
}

function push (L: LuaState, reply: Reply): void {
  if (reply === null) return lua.lua_pushboolean(L, false)
  if (typeof reply === 'number') return lua.lua_pushinteger(L, reply)
  if (typeof reply === 'string') return lua.lua_pushlstring(L, bytesOf(reply), reply.length)
  lua.lua_createtable(L, 0, 0)
  if (reply instanceof Status) {
    push(L, reply.text)
    return lua.lua_setfield(L, -2, bytesOf('ok'))
  }
  reply.forEach((one, i) => {
    push(L, one)
    lua.lua_rawseti(L, -2, i + 1)
  })
}

function pushError (L: LuaState, message: string): void {
  lua.lua_createtable(L, 0, 0)
  push(L, message)
  lua.lua_setfield(L, -2, bytesOf('err'))
}

/** Reads a value as Redis turns it into a reply: whole numbers, `false` is nil, a list ends at its first nil. */
function read (L: LuaState, index: number): Reply | ErrorReply {
  switch (lua.lua_type(L, index)) {
    case lua.LUA_TNUMBER: return Math.trunc(lua.lua_tonumber(L, index))
    case lua.LUA_TSTRING: return textOf(lua.lua_tolstring(L, index))
    case lua.LUA_TBOOLEAN: return lua.lua_toboolean(L, index) ? 1 : null
    case lua.LUA_TTABLE: return readTable(L, index)
    default: return null
  }
}

function readTable (L: LuaState, index: number): Reply | ErrorReply {
  const table = lua.lua_absindex(L, index)
  for (const name of ['err', 'ok'] as const) {
    const type = lua.lua_getfield(L, table, bytesOf(name))
    const text = type === lua.LUA_TSTRING ? textOf(lua.lua_tolstring(L, -1)) : undefined
    lua.lua_pop(L, 1)
    if (text !== undefined) return name === 'err' ? new ErrorReply(text) : new Status(text)
  }
  const list: Reply[] = []
  for (let i = 1; lua.lua_rawgeti(L, table, i) !== lua.LUA_TNIL; i++) {
    list.push(read(L, -1) as Reply)
    lua.lua_pop(L, 1)
  }
  lua.lua_pop(L, 1)
  return list
}

function errorOf (L: LuaState): Error {
  const isReply = lua.lua_type(L, -1) === lua.LUA_TTABLE
  const error = isReply ? read(L, -1) : new ErrorReply(`ERR ${popString(L)}`)
  if (isReply) lua.lua_pop(L, 1)
  return error as ErrorReply
}

function popString (L: LuaState): string {
  const text = textOf(lauxlib.luaL_tolstring(L, -1))
  lua.lua_pop(L, 2)
  return text
}

/** Strings of Lua are bytes; ours have one character per byte. */
function bytesOf (text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

function textOf (bytes: Uint8Array | null): string {
  return bytes === null ? '' : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}
