import type { Terminal } from '../command.ts'
import type { Tally } from './tally.ts'

/** Seconds between two lines where they do not replace each other. */
const LOG_INTERVAL = 10

/** Where a run is: clients connect, publish, wait for what is on its way, and leave. */
export type Phase = 'ramp' | 'traffic' | 'settling' | 'ending'

/** A run at one moment. */
export interface Snapshot {
  /** Since the start. */
  readonly seconds: number
  readonly phase: Phase
  readonly connections: number
  readonly tally: Tally
  readonly overdue: number
}

/** A line about a run: on a terminal it is replaced every second; elsewhere there is a new one every ten seconds. */
export class Progress {
  readonly #stream: Terminal['stderr']
  #before = { seconds: 0, connects: 0, sent: 0, received: 0 }
  #width = 0

  constructor ({ stderr }: Terminal) {
    this.#stream = stderr
  }

  show (snapshot: Snapshot): void {
    const { seconds } = snapshot
    const onTerminal = this.#stream.isTTY === true
    if (!onTerminal && seconds - this.#before.seconds < LOG_INTERVAL) return
    const line = this.#line(snapshot)
    this.#stream.write(onTerminal ? `\r${line.padEnd(this.#width)}` : `${line}\n`)
    this.#width = line.length
  }

  /** What is written next starts on a line of its own. */
  end (): void {
    if (this.#width > 0 && this.#stream.isTTY === true) this.#stream.write('\n')
  }

  #line ({ seconds, phase, connections, tally, overdue }: Snapshot): string {
    const { connects, sent, received } = tally
    const before = this.#before
    this.#before = { seconds, connects, sent, received }
    const rate = (now: number, then: number) => Math.round((now - then) / Math.max(1, seconds - before.seconds))
    const p99 = tally.latencyNow.percentile(99)
    return [
      `${seconds} s ${phase}`,
      `open ${tally.open}/${connections}`,
      `connects ${rate(connects, before.connects)}/s`,
      `published ${rate(sent, before.sent)}/s`,
      `delivered ${rate(received, before.received)}/s`,
      `p99 ${p99 === undefined ? '-' : `${p99.toFixed(1)} ms`}`,
      `reconnects ${tally.reconnects}`,
      `lost ${overdue}`
    ].join('  ')
  }
}
