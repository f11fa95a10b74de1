import type { SessionStore } from '../../model/sessions.ts'

interface Session {
  readonly fields: Map<string, string>
  /** Unix time in milliseconds at which the session expires. */
  until: number
}

/** Sessions at which expired ones are swept the first time. The next sweep is due at twice what the last one left. */
const FIRST_SWEEP = 1_000

/** Sessions of a single instance. */
export class MemorySessions implements SessionStore {
  readonly #sessions = new Map<string, Session>()
  #sweepAt = FIRST_SWEEP

  async get (user: string): Promise<Map<string, string>> {
    return this.#living(user)?.fields ?? new Map()
  }

  async set (user: string, fields: Map<string, string | undefined>, ttl: number): Promise<void> {
    const session = this.#living(user) ?? { fields: new Map(), until: 0 }
    for (const [name, value] of fields) {
      if (value === undefined) session.fields.delete(name)
      else session.fields.set(name, value)
    }
    session.until = Date.now() + ttl
    this.#sessions.set(user, session)
    if (this.#sessions.size >= this.#sweepAt) this.#sweep()
  }

  async delete (user: string): Promise<void> {
    this.#sessions.delete(user)
  }

  /** Returns the session unless it has expired. */
  #living (user: string): Session | undefined {
    const session = this.#sessions.get(user)
    return session !== undefined && session.until > Date.now() ? session : undefined
  }

  #sweep (): void {
    for (const user of this.#sessions.keys()) {
      if (this.#living(user) === undefined) this.#sessions.delete(user)
    }
    this.#sweepAt = Math.max(FIRST_SWEEP, this.#sessions.size * 2)
  }
}
