import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** ms that an answer may take: whatever hangs, the benchmark ends. */
const CALL_TIMEOUT = 90_000
const STOP_TIMEOUT = 5_000

/** The process ended before it was asked to. */
export class EndedError extends Error {}

/** A process that answers calls. */
export class Child {
  #process
  #name
  #calls = new Map()
  #nextId = 0
  #stderr = ''
  #ended

  constructor (file, { env = {}, execArgv = [] } = {}) {
    this.#name = file
    this.#process = fork(fileURLToPath(new URL(file, import.meta.url)), {
      // As users have it: `ws` without the addons that another package may bring.
      env: { ...process.env, ...env }, execArgv, stdio: ['ignore', 'ignore', 'pipe', 'ipc']
    })
    this.#process.stderr.setEncoding('utf8').on('data', text => { this.#stderr = (this.#stderr + text).slice(-10_000) })
    this.#process.on('message', ({ id, result, error }) => {
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error === undefined) call?.resolve(result)
      else call?.reject(new Error(`${this.#name}: ${error}`))
    })
    this.#process.on('close', (code, signal) => {
      this.#ended = new EndedError(`${this.#name} ended (${signal ?? code}): ${this.#reason}`)
      for (const { reject } of this.#calls.values()) reject(this.#ended)
    })
  }

  get ended () { return this.#ended !== undefined }

  get pid () { return this.#process.pid }

  async call (method, ...args) {
    if (this.#ended !== undefined) throw this.#ended
    const id = this.#nextId++
    let timer
    try {
      return await new Promise((resolve, reject) => {
        this.#calls.set(id, { resolve, reject })
        timer = setTimeout(() => reject(new Error(`${this.#name}: no answer to ${method} within ${CALL_TIMEOUT / 1_000} s`)), CALL_TIMEOUT)
        // A failure to send is the end of the process, which rejects the call.
        this.#process.send({ id, method, args }, () => {})
      })
    } finally {
      clearTimeout(timer)
      this.#calls.delete(id)
    }
  }

  async stop () {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exit = once(this.#process, 'exit')
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_TIMEOUT)
    if (this.#process.connected) this.#process.disconnect()
    await exit
    clearTimeout(timer)
  }

  /** The line that says what went wrong. */
  get #reason () {
    const lines = this.#stderr.split('\n').filter(line => line.trim() !== '')
    return lines.find(line => /error/i.test(line))?.trim() ?? lines.at(-1) ?? ''
  }
}
