import { Client, isTerminalForPlain } from './client.ts'
import type { Run } from './client.ts'
import { isOf, payload, stampOf } from './payload.ts'
import { Receiver } from './receiver.ts'
import type { Stream } from './stream.ts'

/**
 * A client of the plain route. What it sends, the app's `onMessage` has to send back, to it alone or to all: there are
 * no acknowledgements, so whatever was sent on an open socket is expected.
 */
export class PlainClient extends Client {
  readonly receiver: Receiver

  constructor (run: Run, index: number, stream: Stream) {
    super(run, index)
    this.receiver = new Receiver(stream)
    this.receiver.begin()
  }

  override mayPublish (): boolean {
    return this.ready && this.flows
  }

  override publish (stream: Stream): void {
    const { run } = this
    const number = stream.take()
    stream.acknowledged(number)
    run.tally.sent++
    // The socket and the plugin keep the order, so all that was sent before has to arrive before.
    this.send(payload({ run: run.id, stream: stream.index, number, settled: number, at: performance.now() }, run.options.size))
  }

  protected override onOpen (): void {
    this.becomeReady()
  }

  protected override onMessage (text: string): void {
    const { run: { id, tally }, receiver } = this
    const stamp = stampOf(parsed(text))
    if (stamp?.run !== id) {
      tally.foreign++
      return
    }
    tally.took(performance.now() - stamp.at, false)
    if (isOf(stamp, id, receiver.stream)) tally.arrived(receiver.take(stamp.number, stamp.settled))
    else tally.foreign++
  }

  protected override onEnd (): void {}

  protected override onGone (): void {
    this.receiver.end()
  }

  protected override isFinal (code: number): boolean {
    return isTerminalForPlain(code)
  }
}

/** A plain route carries what the app likes. */
function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
