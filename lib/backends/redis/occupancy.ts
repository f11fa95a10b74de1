import { OCCUPANCY_TTL } from '../../model/occupancy.ts'
import type { Occupancy, OccupancyListener, OccupancySettings } from '../../model/occupancy.ts'
import { newEpoch } from '../../model/publication.ts'
import type { RedisCommands } from './commands.ts'
import type { RedisKeys } from './keys.ts'
import { enterSubjects, leaveSubjects, MAX_SUBJECTS, reapInstance, vacateSubjects, visitShard } from './occupancy-scripts.ts'
import { runScript } from './script-runner.ts'
import type { RedisScript } from './scripts.ts'

/** Slots over which the subjects are spread. The same in every release: a subject is looked for in one of them. */
const SHARDS = 8
/** Milliseconds that the data is kept while there is no instance. The next instance reports what is due. */
const KEEP = 86_400_000
/** Milliseconds that grace periods may end apart and still be looked at together: at least, and as a share of one. */
const MIN_SLOT = 250
const SLOT_SHARE = 1 / 40
/** Milliseconds of grace at least where Redis has lost its data: all instances enter again what they hold meanwhile. */
const MIN_GRACE_AFTER_LOSS = 5_000

/** One slot of a kind, as this instance knows it. */
interface Shard {
  readonly name: string
  /** Epoch of the data; undefined before the first reply. */
  epoch: string | undefined
  /** What is stored may not be what this instance holds. */
  dirty: boolean
  /** The data was lost. What this instance has entered before may be vacant now. */
  emptied: boolean
  /** Others have taken this instance for crashed, and may have reported its subjects as vacated. */
  reaped: boolean
  /** Subjects that this instance has entered, as Redis has replied. */
  readonly entered: Set<string>
  /** Unix times in milliseconds at which a grace period is over that began with this instance, in order. */
  readonly looks: number[]
}

/**
 * Occupancy of all instances. Each instance visits one shard at every sweep: that is its sign of life, and finds what
 * others have left. It looks itself at what became due by its own leaving, so others need not ask for that.
 */
export class RedisOccupancy implements Occupancy {
  readonly #commands: RedisCommands
  readonly #keys: RedisKeys
  readonly #settings: OccupancySettings
  readonly #listener: OccupancyListener
  readonly #shards: readonly Shard[]
  #next = Math.floor(Math.random() * SHARDS)

  constructor (commands: RedisCommands, keys: RedisKeys, settings: OccupancySettings, listener: OccupancyListener) {
    this.#commands = commands
    this.#keys = keys
    this.#settings = settings
    this.#listener = listener
    this.#shards = Array.from({ length: SHARDS }, (_, i) => ({
      name: `${settings.kind}:${i}`, epoch: undefined, dirty: false, emptied: false, reaped: false, entered: new Set(), looks: []
    }))
  }

  async enter (subjects: readonly string[]): Promise<void> {
    await Promise.all(Array.from(this.#byShard(subjects), ([shard, ofShard]) => this.#attempt(shard, this.#enter(shard, ofShard))))
  }

  async leave (subjects: readonly string[]): Promise<void> {
    await Promise.all(Array.from(this.#byShard(subjects), ([shard, ofShard]) => this.#attempt(shard, this.#leave(shard, ofShard))))
  }

  async sweep (now: number, held: () => Iterable<string>): Promise<void> {
    if (!this.#commands.ready) return
    const next = this.#next
    this.#next = (next + 1) % SHARDS
    await Promise.all(this.#shards.map((shard, i) => {
      if (shard.dirty) return this.#attempt(shard, this.#repair(shard, held))
      return i === next || isDue(shard, now) ? this.#attempt(shard, this.#visit(shard, now)) : undefined
    }))
  }

  recheck (): void {
    for (const shard of this.#shards) shard.dirty = true
  }

  async #attempt (shard: Shard, step: Promise<void>): Promise<void> {
    try {
      await step
    } catch (error) {
      shard.dirty = true
      this.#listener.failed(error)
    }
  }

  async #enter (shard: Shard, subjects: readonly string[]): Promise<void> {
    await Promise.all(parts(subjects).map(async part => {
      const reply = await this.#renew(shard, enterSubjects, part) as [string, number, string[], string[], string[]]
      const [, , vacated, vacant, again] = reply
      for (const subject of vacated) this.#listener.vacated(subject)
      // If a subject was entered before, it was reported as occupied then. It is vacant now because Redis has lost its
      // data, or because others have reported it as vacated: only then is it reported again.
      const reportedBefore = shard.reaped && !shard.emptied ? vacant : []
      // If a subject was not entered before, nobody knows yet: the reply to an earlier call did not arrive.
      const unreported = [...vacant, ...again].filter(subject => !shard.entered.has(subject))
      for (const subject of part) shard.entered.add(subject)
      for (const subject of new Set([...reportedBefore, ...unreported])) this.#listener.occupied(subject)
    }))
  }

  async #leave (shard: Shard, subjects: readonly string[], gracePeriod = this.#settings.gracePeriod): Promise<void> {
    await Promise.all(parts(subjects).map(async part => {
      const [, , last] = await this.#renew(shard, leaveSubjects, part, gracePeriod) as [string, number, number]
      for (const subject of part) shard.entered.delete(subject)
      if (last > 0) this.#lookLater(shard, gracePeriod)
    }))
  }

  async #visit (shard: Shard, now: number): Promise<void> {
    while (isDue(shard, now)) shard.looks.shift()
    const [, , due, crashed] = await this.#renew(shard, visitShard, [String(MAX_SUBJECTS)]) as [string, number, string[], string[]]
    for (const instance of crashed) await this.#reap(shard, instance)
    if (due.length === 0) return
    if (due.length === MAX_SUBJECTS) shard.looks.unshift(now) // the next sweep goes on
    const vacated = await runScript(this.#commands, vacateSubjects, this.#keysOf(shard, this.#settings.instance), [...this.#args(), ...due])
    for (const subject of vacated as string[]) this.#listener.vacated(subject)
  }

  async #reap (shard: Shard, instance: string): Promise<void> {
    for (let more = 1; more === 1;) {
      const args = [instance, ...this.#args().slice(1), String(MAX_SUBJECTS)]
      const [last, left] = await runScript(this.#commands, reapInstance, this.#keysOf(shard, instance), args) as [number, number]
      if (last > 0) this.#lookLater(shard)
      more = left
    }
  }

  /** Makes what is stored what this instance holds. */
  async #repair (shard: Shard, held: () => Iterable<string>): Promise<void> {
    shard.dirty = false // something may fail meanwhile
    const { emptied, reaped } = shard
    const key = this.#keys.occupancyHeld(shard.name, this.#settings.instance)
    const stored = await this.#commands.send(key, ['HGETALL', key]) as Map<string, string>
    const holds = new Set(Array.from(held()).filter(subject => this.#shardOf(subject) === shard))
    const gone = [...stored.keys(), ...emptied ? shard.entered : []].filter(subject => !holds.has(subject))
    // Where the data was lost, it is not known any more that they are occupied, and they would never become vacant.
    const forgotten = emptied ? gone : []
    const grace = emptied ? Math.max(this.#settings.gracePeriod, MIN_GRACE_AFTER_LOSS) : undefined
    await Promise.all([this.#enter(shard, forgotten), this.#leave(shard, gone, grace), this.#enter(shard, Array.from(holds))])
    if (emptied) shard.emptied = false
    if (reaped) shard.reaped = false
  }

  /** Runs a script that is a sign of life, too, and notices what has happened to the data. */
  async #renew (shard: Shard, script: RedisScript, more: readonly string[], gracePeriod?: number): Promise<unknown> {
    const args = [...this.#args(gracePeriod), newEpoch(), ...more]
    const reply = await runScript(this.#commands, script, this.#keysOf(shard, this.#settings.instance), args)
    const [epoch, lost] = reply as [string, number]
    if (shard.epoch !== undefined) {
      if (epoch !== shard.epoch) shard.dirty = shard.emptied = true
      else if (lost === 1) shard.dirty = shard.reaped = true
    }
    shard.epoch = epoch
    return reply
  }

  #lookLater ({ looks }: Shard, gracePeriod = this.#settings.gracePeriod): void {
    const slot = Math.max(MIN_SLOT, gracePeriod * SLOT_SHARE)
    const at = Math.ceil((Date.now() + gracePeriod) / slot) * slot
    if (!looks.includes(at)) looks.push(at)
    looks.sort((a, b) => a - b)
  }

  #args (gracePeriod = this.#settings.gracePeriod): string[] {
    return [this.#settings.instance, String(OCCUPANCY_TTL), String(KEEP), String(gracePeriod)]
  }

  #keysOf ({ name }: Shard, instance: string): [string, ...string[]] {
    const keys = this.#keys
    const shared = [keys.occupancyDue(name), keys.occupancyLeases(name), keys.occupancyEpoch(name)]
    return [keys.occupancy(name), ...shared, keys.occupancyHeld(name, instance)]
  }

  #byShard (subjects: readonly string[]): Map<Shard, string[]> {
    const byShard = new Map<Shard, string[]>()
    for (const subject of subjects) {
      const shard = this.#shardOf(subject)
      const ofShard = byShard.get(shard)
      if (ofShard === undefined) byShard.set(shard, [subject])
      else ofShard.push(subject)
    }
    return byShard
  }

  #shardOf (subject: string): Shard {
    return this.#shards[hash(subject) % SHARDS]!
  }
}

function isDue ({ looks }: Shard, now: number): boolean {
  return looks.length > 0 && looks[0]! <= now
}

/** FNV-1a over the UTF-16 code units. The same in every release. */
function hash (text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value >>> 0
}

function parts (subjects: readonly string[]): string[][] {
  const count = Math.ceil(subjects.length / MAX_SUBJECTS)
  return Array.from({ length: count }, (_, i) => subjects.slice(i * MAX_SUBJECTS, (i + 1) * MAX_SUBJECTS))
}
