import { describeError } from './client.ts'
import type { RedisKeys } from './keys.ts'
import { isForbidden } from './replies.ts'
import { allScripts } from './scripts.ts'

/**
 * Tries each command with as many arguments as it wants. Returns name and error, in turn, of those that fail. The ACL
 * commands could tell the same, but only to a user who has the right to them. None of the commands needs to succeed,
 * since Redis checks the rights first. One key is written, and deleted within the script.
 */
const TRY_COMMANDS = `
local failed = {}
for _, command in ipairs(ARGV) do
  local args, reply = {}, nil
  repeat
    reply = redis.pcall(command, unpack(args))
    local err = type(reply) == 'table' and reply.err
    args[#args + 1] = #args == 0 and KEYS[1] or 'x'
  until not (err and err:find('rong number of args')) or #args > 5
  if type(reply) == 'table' and reply.err then
    failed[#failed + 1] = command
    failed[#failed + 1] = reply.err
  end
end
redis.pcall('PEXPIRE', KEYS[1], 1000)
redis.pcall('DEL', KEYS[1])
return failed
`
const NO_SCRIPT = '0'.repeat(40)

/** Commands that scripts call by a name that they are given, besides the one that publishes. */
const NAMED_BY_CALLERS = ['XRANGE', 'XREVRANGE']

/** Names of the commands that our scripts call, `publishCommand` among them. */
function scriptCommands (publishCommand: string): string[] {
  const called = allScripts.flatMap(({ text }) => Array.from(text.matchAll(/redis\.p?call\('(\w+)'/g), ([, name]) => name!))
  return Array.from(new Set([...called, ...NAMED_BY_CALLERS, publishCommand])).toSorted()
}

/**
 * Rejects with the names of what the Redis user may not use. Without the check, a script that is refused half way has
 * used up an offset, and nobody is told before the first publish.
 * @param more Commands that are sent besides those of every link.
 */
export async function requireRights (
  send: (args: string[]) => Promise<unknown>, publishCommand: string, keys: RedisKeys, more: string[][] = []
): Promise<void> {
  const { rights: key, pattern } = keys
  const missing = new Set<string>()
  const note = (command: string, error: string) => {
    if (isForbidden(error)) missing.add(rightOf(command, error, pattern))
  }
  const commands = [['PING'], ['EVALSHA', NO_SCRIPT, '1', key], ['HGETALL', key], ['DEL', key], [publishCommand, key, ''], ...more]
  const [failed] = await Promise.all([
    send(['EVAL', TRY_COMMANDS, '1', key, ...scriptCommands(publishCommand)]).catch((error: unknown) => ['EVAL', describeError(error)]),
    ...commands.map(([name = '', ...args]) => send([name, ...args]).catch((error: unknown) => note(name, describeError(error))))
  ]) as [string[], ...unknown[]]
  for (let i = 0; i < failed.length; i += 2) note(failed[i]!, failed[i + 1]!)
  if (missing.size > 0) throw new MissingRights(Array.from(missing))
}

/** Returns what to throw for an error of `command`: the right that is missing, or the error itself. */
export function explained (command: string, error: unknown, { pattern }: RedisKeys): unknown {
  const text = describeError(error)
  return isForbidden(text) ? new MissingRights([rightOf(command, text, pattern)]) : error
}

/** The missing right, as ACL SETUSER takes it. */
function rightOf (command: string, error: string, pattern: string): string {
  if (/channel/.test(error)) return `&${pattern}`
  return /\bkeys?\b/.test(error) ? `~${pattern}` : `+${command.toLowerCase()}`
}

class MissingRights extends Error {
  constructor (missing: string[]) {
    super(`the Redis user lacks rights, which ACL SETUSER gives: ${missing.toSorted().join(' ')}`)
  }
}
