// The clients that come back all at once. They have a process of their own, so that those connected already are read
// without delay.
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from './answer.mjs'
import { Client, RefusedError } from './client.mjs'
import { wires } from './wires.mjs'

/** ms that an attempt may take: centrifuge's default. */
const ATTEMPT_TIMEOUT = 10_000
/** ms between two attempts: centrifuge's defaults, with its jitter. Socket.IO's are from 1 to 5 s. */
const MIN_DELAY = 500
const MAX_DELAY = 20_000
const SERVICE_UNAVAILABLE = 503

const backOff = attempt => Math.min(MAX_DELAY, MIN_DELAY + Math.random() * Math.min(MAX_DELAY, MIN_DELAY * 2 ** attempt))

const clients = new Set()

answer({
  /**
   * Starts `count` clients, spread evenly over `within` ms, each in one of the channels from 1 on. They try until they
   * are subscribed. Returns the ms until all are, how many attempts ended otherwise, and by how many ms the latest
   * first attempt began late.
   */
  async storm ({ port, wireName, count, within, channels, timeout }) {
    const result = { back: 0, refused: 0, failed: 0, time: 0, late: 0 }
    const startedAt = performance.now()
    const deadline = startedAt + timeout

    async function comeBack (i) {
      const planned = i * within / count
      await wait(planned)
      result.late = Math.max(result.late, performance.now() - startedAt - planned)
      for (let attempt = 0; performance.now() < deadline; attempt++) {
        const client = new Client(wires[wireName], { channels: [1 + i % channels] })
        try {
          await client.open(port, 'subscriber', ATTEMPT_TIMEOUT)
          clients.add(client)
          result.back++
          result.time = performance.now() - startedAt
          return
        } catch (error) {
          if (error instanceof RefusedError && error.status === SERVICE_UNAVAILABLE) result.refused++
          else result.failed++
        }
        await wait(backOff(attempt))
      }
    }

    await Promise.all(Array.from({ length: count }, (_, i) => comeBack(i)))
    return result
  },

  closed: () => [...clients].filter(client => !client.isOpen).length
})
