import { createHash } from 'node:crypto'

/** A Lua script. Its source never changes, since all values come in as KEYS and ARGV: Redis caches it by its hash. */
export interface RedisScript {
  readonly text: string
  readonly sha1: string
}

/** Every script, also of `occupancy-scripts.ts`. */
export const allScripts: RedisScript[] = []

/** Loads all scripts. Called before any other command of a connection, so that Redis knows every script by its hash. */
export function loadScripts (send: (args: string[]) => Promise<unknown>): void {
  for (const { text } of allScripts) send(['SCRIPT', 'LOAD', text]).catch(() => {}) // `runScript` works without
}

/** Makes a script. Called when a module loads, before any connection is made. */
export function script (text: string): RedisScript {
  const made = { text, sha1: createHash('sha1').update(text).digest('hex') }
  allScripts.push(made)
  return made
}

/**
 * Sets `epoch`, the offset `top` of its last publication, the offset `base` after which the epoch began, and the epoch
 * `previous` that it continues; '' where it began with nothing.
 *
 * Begins an epoch where there is none, and where Redis has gone back in time (an older snapshot, a replica that lagged
 * behind, a split brain): the caller knows a higher offset of this epoch, another entry at its offset, or that the
 * epoch had ended. Offsets would be given twice, so no client may recover over them. `lost`: how many are known to be
 * gone. What the stream holds stays.
 */
const EPOCH = `
local state = redis.call('HMGET', position, 'e', 's', 'b', 'p')
local epoch, top, base, previous, lost = state[1], tonumber(state[2] or 0), tonumber(state[3] or 0), state[4] or '', 0
local function entryDiffers()
  local there = knownEntry ~= '' and redis.call('XRANGE', stream, knownOffset, knownOffset)[1]
  return there and string.find(there[2][2], knownEntry, 1, true) ~= 3
end
if not epoch then
  epoch = freshEpoch
  if knownEpoch ~= '' and knownOffset ~= '0' then lost = 1 end
  redis.call('HSET', position, 'e', epoch)
elseif epoch == knownEpoch and (top < tonumber(knownOffset) or entryDiffers())
  or string.find(' ' .. endedEpochs .. ' ', ' ' .. epoch .. ' ', 1, true) then
  lost = epoch == knownEpoch and math.max(1, tonumber(knownOffset) - top) or 1
  previous, epoch, base = epoch, freshEpoch, top
  redis.call('HSET', position, 'e', epoch, 'b', base, 'p', previous)
end
`

/**
 * Assigns the next offset, appends, trims, expires and publishes in one step: every subscriber sees the order of the
 * stream. Returns offset, epoch and `lost`. With an idempotency key that was used before: those of the first time (0
 * and '' if it was without history), -1, and time and instance of the first time. The ids of entries are the offsets.
 */
export const publishWithHistory = script(`
local stream, position, result = KEYS[1], KEYS[2], KEYS[3]
local publication, size, streamTtl, positionTtl, command, pubsub, resultTtl = unpack(ARGV)
local freshEpoch, knownEpoch, knownOffset, knownEntry, endedEpochs = unpack(ARGV, 8)
if result then
  local earlier = redis.call('HMGET', result, 'offset', 'epoch', 'entry')
  if earlier[1] then return {tonumber(earlier[1]), earlier[2], -1, earlier[3] or ''} end
end
${EPOCH}
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
  redis.call('HSET', result, 'offset', offset, 'epoch', epoch, 'entry', string.match(publication, '^. (%d+ %S+) '))
  redis.call('PEXPIRE', result, resultTtl)
end
redis.call(command, pubsub, offset .. ' ' .. epoch .. ' ' .. publication)
return {offset, epoch, lost}
`)

/**
 * Publishes without history, once per idempotency key. Counts what it publishes, per channel and instance, and puts
 * the sequence between the two parts of the publication. Returns nil, or offset and epoch of the first publish.
 */
export const publishOnce = script(`
local result, sequences = KEYS[1], KEYS[2]
local before, after, instance, command, pubsub, resultTtl = unpack(ARGV)
local earlier = redis.call('HMGET', result, 'offset', 'epoch')
if earlier[1] then return {tonumber(earlier[1]), earlier[2]} end
redis.call('HSET', result, 'offset', 0, 'epoch', '')
redis.call('PEXPIRE', result, resultTtl)
local sequence = redis.call('HINCRBY', sequences, instance, 1)
redis.call('PEXPIRE', sequences, resultTtl)
redis.call(command, pubsub, '0  ' .. before .. sequence .. after)
return false
`)

/**
 * Begins an epoch if the channel has a position. An instance without history for the channel calls it: what it
 * publishes has no offset, so nobody may recover over it.
 */
export const beginEpoch = script(`
local position, freshEpoch = KEYS[1], ARGV[1]
if redis.call('EXISTS', position) == 0 then return 0 end
local state = redis.call('HMGET', position, 'e', 's')
return redis.call('HSET', position, 'e', freshEpoch, 'b', state[2] or 0, 'p', state[1] or '')
`)

/** Entries that are read at once where bytes are limited: more of them might be far more than may be returned. */
const STEP = 16

/**
 * Reads position and entries, at most `maxBytes` of them; 0: no limit. Returns offset, epoch, entries, base, previous
 * and `lost`.
 */
export const readHistory = script(`
local stream, position = KEYS[1], KEYS[2]
local positionTtl, unpublishedTtl, command, from, to = unpack(ARGV)
local limit, maxBytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local freshEpoch, knownEpoch, knownOffset, knownEntry, endedEpochs = unpack(ARGV, 8)
${EPOCH}
redis.call('PEXPIRE', position, top > 0 and positionTtl or unpublishedTtl)
local entries, bytes = {}, 0
while #entries < limit and top > 0 do
  local count = limit - #entries
  if maxBytes > 0 then count = math.min(count, ${STEP}) end
  local part = redis.call(command, stream, from, to, 'COUNT', string.format('%.0f', count))
  for _, entry in ipairs(part) do
    bytes = bytes + #entry[2][2]
    if maxBytes > 0 and bytes > maxBytes and #entries > 0 then return {top, epoch, entries, base, previous, lost} end
    entries[#entries + 1] = entry
  end
  if #part < count then break end
  local last = tonumber(string.match(part[#part][1], '^%d+'))
  from = string.format('%.0f', command == 'XRANGE' and last + 1 or math.max(0, last - 1))
end
return {top, epoch, entries, base, previous, lost}
`)

/** Sets `now` to the clock of Redis, in milliseconds: clocks of instances may differ. */
export const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/**
 * The keys of a presence list: members by client, clients by the time at which they expire, and the number of clients
 * by user. That is a cache: it is made when somebody asks, kept for a while, and kept up to date meanwhile. Defines
 * `remove(client)`. Where a member is not in the form of this package, its user is not counted.
 */
const MEMBERS = `
local members, untils, users = KEYS[1], KEYS[2], KEYS[3]
local function count(member, change)
  local decoded, value = pcall(cjson.decode, member or '')
  if not decoded or type(value) ~= 'table' or type(value.user) ~= 'string' then return end
  if redis.call('HINCRBY', users, value.user, change) <= 0 then redis.call('HDEL', users, value.user) end
end
local counted = redis.call('EXISTS', users) == 1
local function remove(client)
  if counted then count(redis.call('HGET', members, client), -1) end
  redis.call('HDEL', members, client)
  redis.call('ZREM', untils, client)
end
`

/** Removes members that have expired. */
const EXPIRE = `${NOW}
for _, client in ipairs(redis.call('ZRANGEBYSCORE', untils, '-inf', now)) do remove(client) end
`

/** Adds or refreshes members. ARGV: ttl, then id and member in turn. */
export const addMembers = script(`${MEMBERS}${NOW}
local ttl = tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
  if counted and redis.call('HEXISTS', members, ARGV[i]) == 0 then count(ARGV[i + 1], 1) end
  redis.call('HSET', members, ARGV[i], ARGV[i + 1])
  redis.call('ZADD', untils, now + ttl, ARGV[i])
end
redis.call('PEXPIRE', members, ttl)
redis.call('PEXPIRE', untils, ttl)
return 0
`)

export const removeMember = script(`${MEMBERS}
remove(ARGV[1])
return 0
`)

/** Returns the members that have not expired. */
export const listMembers = script(`${MEMBERS}${EXPIRE}
return redis.call('HVALS', members)
`)

/** Returns the number of clients and of users. Looks at each member only if the users are not counted. ARGV: ttl. */
export const countMembers = script(`${MEMBERS}${EXPIRE}
if redis.call('EXISTS', users) == 0 then
  for _, member in ipairs(redis.call('HVALS', members)) do count(member, 1) end
  redis.call('PEXPIRE', users, ARGV[1])
end
return {redis.call('ZCARD', untils), redis.call('HLEN', users)}
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

/**
 * Counts an upgrade. The window starts with the first one. A count that another program left without an end would lock
 * its address out forever: it gets one, too. Returns the count and the milliseconds left.
 */
export const countInWindow = script(`
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
`)
