import { RedisRefusedError } from '../../model/errors.ts'
import { withDeadline } from './commands.ts'
import type { RedisArgument, RedisCommands } from './commands.ts'
import type { RedisScript } from './scripts.ts'

/** Script calls of one `RedisCommands`. */
interface Running {
  /** Calls in flight. */
  count: number
  /** Continues the calls that wait until none is in flight. Set after Redis has answered NOSCRIPT. */
  waiting: Array<() => void> | undefined
}

const running = new WeakMap<RedisCommands, Running>()

/**
 * Runs a script by its hash. If Redis does not know the script, sends its source. Later calls then wait until all calls
 * in flight are over, or they would overtake those that are sent again: publishes must stay in order, awaited or not.
 */
export async function runScript (
  commands: RedisCommands, script: RedisScript, keys: [string, ...string[]], args: RedisArgument[], buffers = false
): Promise<unknown> {
  const mine = running.get(commands) ?? { count: 0, waiting: undefined }
  running.set(commands, mine)
  if (mine.waiting !== undefined) await withDeadline(new Promise<void>(resolve => { mine.waiting!.push(resolve) }))
  const rest = [String(keys.length), ...keys, ...args]
  mine.count++
  try {
    return await commands.send(keys[0], ['EVALSHA', script.sha1, ...rest], buffers)
  } catch (error) {
    if (!(error instanceof RedisRefusedError) || !error.message.includes('NOSCRIPT')) throw error
    mine.waiting ??= []
    return await commands.send(keys[0], ['EVAL', script.text, ...rest], buffers)
  } finally {
    if (--mine.count === 0) {
      const { waiting = [] } = mine
      mine.waiting = undefined
      for (const go of waiting) go()
    }
  }
}
