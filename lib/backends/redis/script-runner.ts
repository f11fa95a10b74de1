import { RedisRefusedError, RedisUnavailableError } from '../../model/errors.ts'
import { describeError } from './client.ts'
import { COMMAND_TIMEOUT, withDeadline } from './commands.ts'
import type { RedisArgument, RedisCommands } from './commands.ts'
import type { RedisScript } from './scripts.ts'

/** From the first NOSCRIPT until no call is in flight. */
interface Waiting {
  /** Sends the source of a script that Redis did not know. */
  readonly failed: Array<() => void>
  /** Makes a call that came later. */
  readonly later: Array<() => void>
  /** First keys of the calls that have succeeded meanwhile: another instance has sent the source. */
  readonly ahead: Set<string>
}

/** Script calls of one `RedisCommands`. */
interface Running {
  /** Calls in flight. */
  count: number
  waiting: Waiting | undefined
}

const running = new WeakMap<RedisCommands, Running>()

/**
 * Runs a script by its hash. If Redis does not know the script (after SCRIPT FLUSH), sends its source once all calls in
 * flight are over, and keeps later calls until then: publishes must stay in order, awaited or not. For the same reason
 * a call fails if a later one with the same first key has gone ahead of it.
 */
export async function runScript (
  commands: RedisCommands, script: RedisScript, keys: [string, ...string[]], args: RedisArgument[], buffers = false
): Promise<unknown> {
  const mine = running.get(commands) ?? { count: 0, waiting: undefined }
  running.set(commands, mine)
  const { waiting } = mine
  const startedAt = Date.now()
  if (waiting !== undefined) return queued(waiting.later, startedAt, () => runScript(commands, script, keys, args, buffers))
  const rest = [String(keys.length), ...keys, ...args]
  mine.count++
  try {
    const reply = await commands.send(keys[0], ['EVALSHA', script.sha1, ...rest], buffers)
    mine.waiting?.ahead.add(keys[0])
    return reply
  } catch (error) {
    if (!(error instanceof RedisRefusedError) || !describeError(error).includes('NOSCRIPT')) throw error
    const { failed, ahead }: Waiting = mine.waiting ??= { failed: [], later: [], ahead: new Set() }
    return queued(failed, startedAt, async () => {
      if (ahead.has(keys[0])) throw new RedisUnavailableError('it had lost its scripts, and a later call has gone ahead')
      return commands.send(keys[0], ['EVAL', script.text, ...rest], buffers)
    })
  } finally {
    mine.count--
    if (mine.count === 0) release(mine)
  }
}

/** Resolves with the result of `call`, which `release` makes. What has waited too long by then is not made any more. */
function queued (list: Array<() => void>, startedAt: number, call: () => Promise<unknown>): Promise<unknown> {
  const left = () => startedAt + COMMAND_TIMEOUT - Date.now()
  const late = () => Promise.reject(new RedisUnavailableError('it did not answer in time'))
  return withDeadline(new Promise(resolve => { list.push(() => resolve(left() > 0 ? call() : late())) }), undefined, left())
}

/** Makes the calls that wait, in their order and in one go: no other call may get in between. */
function release (mine: Running): void {
  const { waiting } = mine
  mine.waiting = undefined
  for (const call of [...waiting?.failed ?? [], ...waiting?.later ?? []]) call()
}
