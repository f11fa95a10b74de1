/** Lets one task wait until another has something for it. */
export class Wake {
  #resolve: (() => void) | undefined

  /** Resolves at the next `wake`, or after `ms`. */
  async wait (ms?: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>(resolve => {
      this.#resolve = resolve
      if (ms !== undefined) timer = setTimeout(resolve, ms)
    })
    clearTimeout(timer)
    this.#resolve = undefined
  }

  wake (): void {
    this.#resolve?.()
  }
}
