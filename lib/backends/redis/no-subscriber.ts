import type { RedisSubscriber } from './subscriber.ts'

/** Stands for the subscriber of a process that listens to nothing, and so needs no connection for it. */
export class NoSubscriber implements RedisSubscriber {
  readonly ready = true
  readonly reason = ''

  isReady (): boolean { return true }

  open (): void {}

  async subscribe (): Promise<void> { throw new Error('this process listens to no channel') }

  unsubscribe (): void {}

  giveUp (): void {}

  async close (): Promise<void> {}
}
