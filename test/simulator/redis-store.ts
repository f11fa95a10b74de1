/** What Redis replies. Strings are binary: one character per byte. */
export type Reply = null | number | string | Reply[] | Status

/** A reply such as OK, which Redis does not send as a string. */
export class Status {
  readonly text: string

  constructor (text: string) {
    this.text = text
  }
}

/** What Redis refuses. The name is that of node-redis' class. */
export class ErrorReply extends Error {}

interface Stream {
  entries: Array<{ readonly id: Id, readonly fields: string[] }>
  last: Id
}

type Id = readonly [ms: number, sequence: number]
type Value = string | Map<string, string> | Stream

interface Key {
  readonly value: Value
  /** Unix time in milliseconds; Infinity: never. */
  expiresAt: number
}

const WRONG_TYPE = 'WRONGTYPE Operation against a key holding the wrong kind of value'

/** The data of a Redis server, with the commands that the scripts of lib/backends/redis use, and no others. */
export class RedisStore {
  readonly #keys = new Map<string, Key>()

  /** A copy, as a snapshot or a replica has it. */
  copy (): RedisStore {
    const copy = new RedisStore()
    for (const [name, { value, expiresAt }] of this.#keys) copy.#keys.set(name, { value: copyOf(value), expiresAt })
    return copy
  }

  /** Runs a command. @throws ErrorReply */
  run (command: string, args: readonly string[]): Reply {
    const handler = this.#commands[command.toUpperCase()]
    if (handler === undefined) throw new Error(`the model of Redis has no ${command}: add it to redis-store.ts`)
    return handler(...args as [string, ...string[]])
  }

  readonly #commands: Record<string, (key: string, ...args: string[]) => Reply> = {
    DEL: (...names) => names.filter(name => this.#get(name) !== undefined && this.#keys.delete(name)).length,
    EXISTS: name => this.#get(name) === undefined ? 0 : 1,
    PEXPIRE: (name, ms) => {
      const key = this.#get(name)
      if (key === undefined) return 0
      key.expiresAt = Date.now() + Number(ms)
      if (Number(ms) <= 0) this.#keys.delete(name)
      return 1
    },
    PTTL: name => {
      const key = this.#get(name)
      return key === undefined ? -2 : key.expiresAt === Infinity ? -1 : key.expiresAt - Date.now()
    },
    INCR: name => {
      const count = Number(this.#string(name) ?? '0') + 1
      this.#set(name, String(count))
      return count
    },
    TIME: () => [String(Math.floor(Date.now() / 1_000)), String(Date.now() % 1_000 * 1_000)],

    HSET: (name, ...pairs) => {
      const hash = this.#hash(name) ?? this.#set(name, new Map<string, string>())
      let added = 0
      for (let i = 0; i < pairs.length; i += 2) {
        if (!hash.has(pairs[i]!)) added++
        hash.set(pairs[i]!, pairs[i + 1]!)
      }
      return added
    },
    HGET: (name, field) => this.#hash(name)?.get(field!) ?? null,
    HMGET: (name, ...fields) => fields.map(field => this.#hash(name)?.get(field) ?? null),
    HEXISTS: (name, field) => this.#hash(name)?.has(field!) ? 1 : 0,
    HLEN: name => this.#hash(name)?.size ?? 0,
    HVALS: name => Array.from(this.#hash(name)?.values() ?? []),
    HINCRBY: (name, field, by) => {
      const hash = this.#hash(name) ?? this.#set(name, new Map<string, string>())
      const value = Number(hash.get(field!) ?? '0') + Number(by)
      if (!Number.isInteger(value)) throw new ErrorReply('ERR hash value is not an integer')
      hash.set(field!, String(value))
      return value
    },
    HDEL: (name, ...fields) => this.#removeFrom(name, this.#hash(name), fields),

    ZADD: (name, ...pairs) => {
      const scores = this.#hash(name) ?? this.#set(name, new Map<string, string>())
      let added = 0
      for (let i = 0; i < pairs.length; i += 2) {
        if (!scores.has(pairs[i + 1]!)) added++
        scores.set(pairs[i + 1]!, pairs[i]!)
      }
      return added
    },
    ZCARD: name => this.#hash(name)?.size ?? 0,
    ZREM: (name, ...members) => this.#removeFrom(name, this.#hash(name), members),
    ZRANGEBYSCORE: (name, from, to) => this.#byScore(name, from!, to!),
    ZREMRANGEBYSCORE: (name, from, to) => this.#removeFrom(name, this.#hash(name), this.#byScore(name, from!, to!)),

    XADD: (name, ...args) => {
      const maxLength = args[0]!.toUpperCase() === 'MAXLEN' ? Number(args[1]) : Infinity
      const [text, ...fields] = maxLength === Infinity ? args : args.slice(2)
      const id = idOf(text!, 0)
      if (compare(id, [0, 0]) === 0) throw new ErrorReply('ERR The ID specified in XADD must be greater than 0-0')
      const stream = this.#stream(name) ?? { entries: [], last: [0, 0] }
      if (compare(id, stream.last) <= 0) {
        throw new ErrorReply('ERR The ID specified in XADD is equal or smaller than the target stream top item')
      }
      stream.entries.push({ id, fields })
      stream.last = id
      if (stream.entries.length > maxLength) stream.entries.splice(0, stream.entries.length - maxLength)
      if (this.#stream(name) === undefined) this.#set(name, stream)
      return id.join('-')
    },
    XRANGE: (name, from, to, _count, limit) => this.#range(name, from!, to!).slice(0, limitOf(limit)),
    XREVRANGE: (name, to, from, _count, limit) => this.#range(name, from!, to!).reverse().slice(0, limitOf(limit)),
    XLEN: name => this.#stream(name)?.entries.length ?? 0
  }

  #get (name: string): Key | undefined {
    const key = this.#keys.get(name)
    if (key === undefined || key.expiresAt > Date.now()) return key
    this.#keys.delete(name)
  }

  #set<T extends Value> (name: string, value: T): T {
    this.#keys.set(name, { value, expiresAt: this.#get(name)?.expiresAt ?? Infinity })
    return value
  }

  #string (name: string): string | undefined {
    const value = this.#get(name)?.value
    if (value !== undefined && typeof value !== 'string') throw new ErrorReply(WRONG_TYPE)
    return value
  }

  #hash (name: string): Map<string, string> | undefined {
    const value = this.#get(name)?.value
    if (value !== undefined && !(value instanceof Map)) throw new ErrorReply(WRONG_TYPE)
    return value
  }

  #stream (name: string): Stream | undefined {
    const value = this.#get(name)?.value
    if (value !== undefined && (typeof value === 'string' || value instanceof Map)) throw new ErrorReply(WRONG_TYPE)
    return value
  }

  #removeFrom (name: string, from: Map<string, string> | undefined, names: readonly string[]): number {
    const removed = names.filter(one => from?.delete(one)).length
    if (from?.size === 0) this.#keys.delete(name)
    return removed
  }

  #byScore (name: string, from: string, to: string): string[] {
    const [min, max] = [from, to].map(text => text === '-inf' ? -Infinity : text === '+inf' ? Infinity : Number(text)) as [number, number]
    const scores = Array.from(this.#hash(name) ?? [], ([member, score]) => ({ member, score: Number(score) }))
    return scores.filter(({ score }) => score >= min && score <= max)
      .sort((a, b) => a.score - b.score || (a.member < b.member ? -1 : 1)).map(({ member }) => member)
  }

  #range (name: string, from: string, to: string): Reply[] {
    const [min, max] = [idOf(from, 0), idOf(to, Infinity)]
    const entries = this.#stream(name)?.entries ?? []
    return entries.filter(({ id }) => compare(id, min) >= 0 && compare(id, max) <= 0).map(({ id, fields }) => [id.join('-'), fields])
  }
}

function copyOf (value: Value): Value {
  if (typeof value === 'string') return value
  return value instanceof Map ? new Map(value) : { entries: value.entries.slice(), last: value.last }
}

function idOf (text: string, sequence: number): Id {
  if (text === '-') return [0, 0]
  if (text === '+') return [Infinity, Infinity]
  const [ms, rest] = text.split('-')
  return [Number(ms), rest === undefined ? sequence : Number(rest)]
}

function compare (a: Id, b: Id): number {
  return a[0] - b[0] || a[1] - b[1]
}

function limitOf (text: string | undefined): number {
  return text === undefined ? Infinity : Number(text)
}
