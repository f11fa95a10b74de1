/** Samples at the most. Beyond that, every other one goes. */
const MAX_SAMPLES = 120

export interface OpenSample {
  /** Since the start. */
  readonly second: number
  readonly open: number
}

/** Connections that were open, over the time of a run. */
export class OpenSamples {
  #samples: OpenSample[] = []
  /** Seconds between two samples. */
  #step = 1

  add (second: number, open: number): void {
    if (second % this.#step !== 0) return
    this.#samples.push({ second, open })
    if (this.#samples.length <= MAX_SAMPLES) return
    this.#step *= 2
    this.#samples = this.#samples.filter(sample => sample.second % this.#step === 0)
  }

  toJSON (): OpenSample[] {
    return this.#samples
  }
}
