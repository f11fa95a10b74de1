import { NOW, script } from './scripts.ts'

/*
 * A subject (a channel, a user) is held by instances. Each shard has, in one slot:
 *
 *   counts  hash: subject to the number of instances that hold it; in its grace period, to minus the time at which that
 *           is over. A subject that is not in it is vacant
 *   due     sorted set: subjects in their grace period, by that time
 *   leases  sorted set: instances by the time at which they count as crashed
 *   epoch   hash with a random text in `e`. A different text shows that the data was lost
 *   held    hash of one instance: its subjects, to '1' if the subject was vacant when it came, else '0'
 *
 * A subject has a count for every `held` that it is in. All times are of the clock of Redis, in milliseconds.
 */

/** Subjects that one script call takes at most. Redis handles no other command while a script runs. */
export const MAX_SUBJECTS = 500

const KEYS_OF_SHARD = `
local counts, due, leases, epochs, held = unpack(KEYS)
local instance, ttl, keep, grace = unpack(ARGV, 1, 4)
local function expire()
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, keep) end
end
-- One instance holds the subject no more. Returns 1 if it was the last one.
local function release(subject)
  if redis.call('HINCRBY', counts, subject, -1) > 0 then return 0 end
  local dueAt = now + grace
  redis.call('HSET', counts, subject, -dueAt)
  redis.call('ZADD', due, dueAt, subject)
  return 1
end
`

/**
 * Gives a sign of life. `lost`: 1 if the instance had none for too long, or never, so that others may have taken it for
 * crashed.
 * ARGV: instance, ttl, ms that keys are kept, grace period, epoch to begin with if there is none.
 */
const RENEW = `${NOW}${KEYS_OF_SHARD}
local epoch = redis.call('HGET', epochs, 'e')
if not epoch then
  epoch = ARGV[5]
  redis.call('HSET', epochs, 'e', epoch)
end
local lost, crashed = 0, {}
for _, one in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
  if one == instance then lost = 1 else crashed[#crashed + 1] = one end
end
if redis.call('ZADD', leases, now + ttl, instance) == 1 then lost = 1 end
`

/**
 * Enters subjects: ARGV from 6. Returns epoch, `lost`, those whose grace period was over, which are reported as vacated
 * first, those that were vacant, and those that were vacant at an earlier call whose reply may not have arrived.
 */
export const enterSubjects = script(`${RENEW}
local vacated, vacant, again = {}, {}, {}
for i = 6, #ARGV do
  local subject = ARGV[i]
  local known = redis.call('HGET', held, subject)
  if known == '1' then
    again[#again + 1] = subject
  elseif not known then
    local count = tonumber(redis.call('HGET', counts, subject) or 0)
    if count < 0 then
      redis.call('ZREM', due, subject)
      redis.call('HDEL', counts, subject)
      if -count <= now then
        vacated[#vacated + 1] = subject
        count = 0
      end
    end
    if count == 0 then vacant[#vacant + 1] = subject end
    redis.call('HINCRBY', counts, subject, 1)
    redis.call('HSET', held, subject, count == 0 and '1' or '0')
  end
end
expire()
return {epoch, lost, vacated, vacant, again}
`)

/** Leaves subjects: ARGV from 6. Returns epoch, `lost`, and how many nobody holds any more. */
export const leaveSubjects = script(`${RENEW}
local last = 0
for i = 6, #ARGV do
  if redis.call('HDEL', held, ARGV[i]) == 1 then last = last + release(ARGV[i]) end
end
expire()
return {epoch, lost, last}
`)

/** Returns epoch, `lost`, at most ARGV[6] subjects whose grace period is over, and the instances that have crashed. */
export const visitShard = script(`${RENEW}
expire()
return {epoch, lost, redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[6]), crashed}
`)

/** Makes subjects vacant whose grace period is over: ARGV from 5. Returns those that are now, each to one caller. */
export const vacateSubjects = script(`${NOW}${KEYS_OF_SHARD}
local vacated = {}
for i = 5, #ARGV do
  local subject = ARGV[i]
  local count = tonumber(redis.call('HGET', counts, subject) or 0)
  if count >= 0 or -count <= now then redis.call('ZREM', due, subject) end
  if count < 0 and -count <= now then
    redis.call('HDEL', counts, subject)
    vacated[#vacated + 1] = subject
  end
end
return vacated
`)

/**
 * Takes at most ARGV[5] subjects from an instance that has crashed: `held` and `instance` are of that one. Returns how
 * many of them nobody holds any more, and 1 if there are more to take.
 */
export const reapInstance = script(`${NOW}${KEYS_OF_SHARD}
local crashed = false
for _, one in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do crashed = crashed or one == instance end
if not crashed then return {0, 0} end
local fields, last, taken = redis.call('HGETALL', held), 0, 0
for i = 1, #fields, 2 do
  if taken == tonumber(ARGV[5]) then
    expire()
    return {last, 1}
  end
  redis.call('HDEL', held, fields[i])
  last = last + release(fields[i])
  taken = taken + 1
end
redis.call('ZREM', leases, instance)
expire()
return {last, 0}
`)
