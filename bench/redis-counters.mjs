import { createClient } from 'redis'

const READING = '*2\r\n$4\r\nINFO\r\n$10\r\neverything\r\n'

/** What Redis itself counts: commands, bytes, CPU. */
export class RedisCounters {
  #client
  static async of ({ url }) {
    const counters = new RedisCounters()
    counters.#client = createClient({ url, RESP: 2 })
    counters.#client.on('error', console.error)
    await counters.#client.connect()
    return counters
  }

  get client () { return this.#client }

  async #read () {
    const info = await this.#client.sendCommand(['INFO', 'everything'])
    const number = name => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1] ?? Number.NaN)
    const calls = Object.fromEntries(Array.from(info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm), ([, name, count]) => [name, Number(count)]))
    return {
      time: performance.now(),
      calls,
      cpu: 1e6 * (number('used_cpu_user_main_thread') + number('used_cpu_sys_main_thread')),
      bytesIn: number('total_net_input_bytes'),
      bytesOut: number('total_net_output_bytes'),
      memory: number('used_memory'),
      answer: `$${info.length}\r\n${info}\r\n`.length
    }
  }

  /** Runs something and gives what it took: `calls` by command, `cpu` in us, bytes, `time` in s. */
  async during (run) {
    const before = await this.#read()
    const result = await run()
    const after = await this.#read()
    const calls = Object.fromEntries(Object.entries(after.calls).map(([name, count]) => [name, count - (before.calls[name] ?? 0)]))
    return {
      result,
      calls: name => calls[name] ?? 0,
      cpu: after.cpu - before.cpu,
      // A reading counts its own command, and the answer to the one before.
      bytesIn: after.bytesIn - before.bytesIn - READING.length,
      bytesOut: after.bytesOut - before.bytesOut - before.answer,
      memory: after.memory - before.memory,
      time: (after.time - before.time) / 1_000
    }
  }

  /** Subscribers of each Pub/Sub channel that has any. */
  async subscribers () {
    const names = await this.#client.sendCommand(['PUBSUB', 'CHANNELS'])
    const flat = await this.#client.sendCommand(['PUBSUB', 'NUMSUB', ...names])
    return names.map((name, i) => ({ name, count: Number(flat[2 * i + 1]) }))
  }

  close () {
    this.#client.destroy()
  }
}
