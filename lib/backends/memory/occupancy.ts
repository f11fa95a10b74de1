import type { Occupancy, OccupancyKind, OccupancyListener, OccupancySettings } from '../../model/occupancy.ts'

/** What the instances of one process share. */
export class SharedOccupancy {
  /** By kind and subject: the instances that hold it. A subject in its grace period has none. */
  readonly holders: Readonly<Record<OccupancyKind, Map<string, Set<string>>>> = { channels: new Map(), users: new Map() }
  /** By kind and subject: the Unix time in milliseconds at which its grace period is over. */
  readonly due: Readonly<Record<OccupancyKind, Map<string, number>>> = { channels: new Map(), users: new Map() }
}

/** Occupancy of the instances of one process. None of them crashes without the others, so nothing expires. */
export class MemoryOccupancy implements Occupancy {
  readonly #holders: Map<string, Set<string>>
  readonly #due: Map<string, number>
  readonly #settings: OccupancySettings
  readonly #listener: OccupancyListener

  constructor ({ holders, due }: SharedOccupancy, settings: OccupancySettings, listener: OccupancyListener) {
    this.#holders = holders[settings.kind]
    this.#due = due[settings.kind]
    this.#settings = settings
    this.#listener = listener
  }

  async enter (subjects: readonly string[]): Promise<void> {
    for (const subject of subjects) this.#enter(subject, Date.now())
  }

  async leave (subjects: readonly string[]): Promise<void> {
    const { instance, gracePeriod } = this.#settings
    for (const subject of subjects) {
      const holders = this.#holders.get(subject)
      if (holders?.delete(instance) && holders.size === 0) this.#due.set(subject, Date.now() + gracePeriod)
    }
  }

  async sweep (now: number): Promise<void> {
    for (const [subject, dueAt] of this.#due) {
      if (dueAt <= now) this.#vacate(subject)
    }
  }

  recheck (): void {}

  #enter (subject: string, now: number): void {
    const dueAt = this.#due.get(subject)
    if (dueAt !== undefined && dueAt <= now) this.#vacate(subject) // nobody has looked yet
    this.#due.delete(subject)
    const holders = this.#holders.get(subject)
    if (holders !== undefined) {
      holders.add(this.#settings.instance)
    } else {
      this.#holders.set(subject, new Set([this.#settings.instance]))
      this.#listener.occupied(subject)
    }
  }

  #vacate (subject: string): void {
    this.#due.delete(subject)
    this.#holders.delete(subject)
    this.#listener.vacated(subject)
  }
}
