import { createHash } from 'node:crypto'

/** A Lua script. Its source never changes, since all values come in as KEYS and ARGV: Redis caches it by its hash. */
export interface RedisScript {
  readonly text: string
  readonly sha1: string
}

/** Every script below. */
export const allScripts: RedisScript[] = []

/** Loads all scripts. Called before any other command of a connection, so that Redis knows every script by its hash. */
export function loadScripts (send: (args: string[]) => Promise<unknown>): void {
  for (const { text } of allScripts) send(['SCRIPT', 'LOAD', text]).catch(() => {}) // `runScript` works without
}

function script (text: string): RedisScript {
  const made = { text, sha1: createHash('sha1').update(text).digest('hex') }
  allScripts.push(made)
  return made
}

/**
 * Assigns the next offset, appends, trims, expires and publishes in one step: every subscriber sees the order of the
 * stream. Returns offset and epoch; 0 and '' if the idempotency key was used for a publication without history. The ids
 * of stream entries are the offsets.
 */
export const publishWithHistory = script(`
local stream, position, result = KEYS[1], KEYS[2], KEYS[3]
local publication, size, streamTtl, positionTtl, freshEpoch, command, pubsub, resultTtl = unpack(ARGV)
if result then
  local earlier = redis.call('HMGET', result, 'offset', 'epoch')
  if earlier[1] then return {tonumber(earlier[1]), earlier[2]} end
end
local epoch = redis.call('HGET', position, 'e')
if not epoch then
  epoch = freshEpoch
  redis.call('HSET', position, 'e', epoch)
end
local offset = redis.call('HINCRBY', position, 's', 1)
redis.call('PEXPIRE', position, positionTtl)
-- The position may have been evicted without the stream, whose entries then belong to another epoch.
if offset == 1 then redis.call('DEL', stream) end
local added = redis.pcall('XADD', stream, 'MAXLEN', size, offset .. '-0', 'd', publication)
if type(added) == 'table' and added.err then
  -- Another program has written to the key: it takes no offset of ours any more.
  redis.call('DEL', stream)
  redis.call('XADD', stream, offset .. '-0', 'd', publication)
end
redis.call('PEXPIRE', stream, streamTtl)
if result then
  redis.call('HSET', result, 'offset', offset, 'epoch', epoch)
  redis.call('PEXPIRE', result, resultTtl)
end
redis.call(command, pubsub, offset .. ' ' .. epoch .. ' ' .. publication)
return {offset, epoch}
`)

/** Publishes without history, once per idempotency key. Returns nil, or offset and epoch of the first publish. */
export const publishOnce = script(`
local result = KEYS[1]
local publication, command, pubsub, resultTtl = unpack(ARGV)
local earlier = redis.call('HMGET', result, 'offset', 'epoch')
if earlier[1] then return {tonumber(earlier[1]), earlier[2]} end
redis.call('HSET', result, 'offset', 0, 'epoch', '')
redis.call('PEXPIRE', result, resultTtl)
redis.call(command, pubsub, '0  ' .. publication)
return false
`)

/** Reads position and entries. Starts an epoch if there is none. Returns offset, epoch, entries. */
export const readHistory = script(`
local stream, position = KEYS[1], KEYS[2]
local freshEpoch, positionTtl, limit, reverse, from, to = unpack(ARGV)
local state = redis.call('HMGET', position, 'e', 's')
local epoch, top = state[1], tonumber(state[2] or 0)
if not epoch then
  epoch = freshEpoch
  redis.call('HSET', position, 'e', epoch)
end
redis.call('PEXPIRE', position, positionTtl)
local entries = {}
if limit ~= '0' and top > 0 then
  if reverse == '1' then
    entries = redis.call('XREVRANGE', stream, from, to, 'COUNT', limit)
  else
    entries = redis.call('XRANGE', stream, from, to, 'COUNT', limit)
  end
end
return {top, epoch, entries}
`)

/** Sets `now` to the clock of Redis, in milliseconds: clocks of instances may differ. */
const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** Adds or refreshes members. ARGV: ttl, then id and member in turn. */
export const addMembers = script(`${NOW}
local members, untils = KEYS[1], KEYS[2]
local ttl = tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
  redis.call('HSET', members, ARGV[i], ARGV[i + 1])
  redis.call('ZADD', untils, now + ttl, ARGV[i])
end
redis.call('PEXPIRE', members, ttl)
redis.call('PEXPIRE', untils, ttl)
return 0
`)

export const removeMember = script(`
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 0
`)

/** Removes expired members, then returns the others. */
export const listMembers = script(`${NOW}
local members, untils = KEYS[1], KEYS[2]
for _, client in ipairs(redis.call('ZRANGEBYSCORE', untils, '-inf', now)) do redis.call('HDEL', members, client) end
redis.call('ZREMRANGEBYSCORE', untils, '-inf', now)
return redis.call('HVALS', members)
`)

/** Sets and removes fields. ARGV: ttl, number of fields to set, name and value of each in turn, names to remove. */
export const setSession = script(`
local ttl, count = ARGV[1], tonumber(ARGV[2])
local last = 2 + count * 2
for i = 3, last, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ttl)
return 0
`)

/** Counts an upgrade. The window starts with the first one. Returns the count and the milliseconds left. */
export const countInWindow = script(`
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}
`)
