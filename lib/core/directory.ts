import { inspect } from 'node:util'
import type { Hub } from '../hub/hub.ts'
import { checkFields } from '../model/arguments.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import type { Observer } from '../observability/observer.ts'
import { RecentTexts } from '../util/recent-texts.ts'
import { checkUser } from './check-user.ts'
import type { Connections } from './connections.ts'
import { guarded } from './guard.ts'
import { areCounts, sumsOf } from './survey.ts'
import type { Count, Question, Survey } from './survey.ts'

/** Entries of a list at most, and where the app does not say how many. */
const MAX_LIMIT = 10_000
const DEFAULT_LIMIT = 1_000
/** Users that one question is about at most. */
const MAX_ASKED = 1_000

/** Which entries of a list are wanted. */
export interface ListOptions {
  /** Only names that start with this. `@default` '' */
  prefix?: string | undefined
  /** Maximum number of entries, up to 10,000. `@default` 1_000 */
  limit?: number | undefined
  /** Only names after this one, which is the last name of the page before. `@default` from the first name */
  after?: string | undefined
}

/** A user who is connected. */
export interface OnlineUser {
  user: string
  /** Connections on all instances. */
  connections: number
}

/** A channel with subscribers. */
export interface OccupiedChannel {
  channel: string
  /** Subscribers on all instances. */
  clients: number
}

/**
 * Who is there. Each call asks every instance, and nothing is stored: without calls it costs nothing. An instance that
 * gives no answer within a second (it has crashed, is overloaded or is of an older release) is left out of the result,
 * and a log entry, `survey.incomplete`, names it.
 */
export interface DirectoryCalls {
  /**
   * Whether the user has a connection on any instance.
   * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  isOnline (user: string): Promise<boolean>
  /**
   * Lists the connected users, sorted by name (by UTF-16 code units). Connections without a user are not in the list.
   * @throws as `isOnline`
   */
  users (options?: ListOptions): Promise<OnlineUser[]>
  /**
   * Lists the channels with subscribers, sorted by name (by UTF-16 code units), whether or not they keep presence.
   * @throws as `isOnline`
   */
  channels (options?: ListOptions): Promise<OccupiedChannel[]>
}

type Wanted = { readonly [field in keyof ListOptions]-?: NonNullable<ListOptions[field]> }

const online: Question<string[], string[]> = {
  name: 'online', isAnswer: value => Array.isArray(value) && value.every(user => typeof user === 'string')
}
const users: Question<Wanted, Count[]> = { name: 'users', isAnswer: areCounts }
const channels: Question<Wanted, Count[]> = { name: 'channels', isAnswer: areCounts }

/** Answers who is connected here, and asks all instances. */
class Directory {
  readonly #connections: Connections
  readonly #survey: Survey
  readonly #observer: Observer
  readonly #told = new RecentTexts()
  /** Who is asked about at the end of this turn. */
  #asking: { readonly users: Set<string>, readonly online: Promise<ReadonlySet<string>> } | undefined

  constructor (connections: Connections, hub: Hub, survey: Survey, observer: Observer) {
    this.#connections = connections
    this.#survey = survey
    this.#observer = observer
    survey.answer(online, asked => asked.filter(user => connections.has(user)))
    survey.answer(users, wanted => page(connections.users(), wanted))
    survey.answer(channels, wanted => page(hub.sizes(), wanted))
  }

  /** Those who are asked about in one turn of the event loop are one question. */
  async isOnline (user: string): Promise<boolean> {
    if (this.#connections.has(user)) return true
    if (this.#asking === undefined || this.#asking.users.size >= MAX_ASKED) {
      const users = new Set<string>()
      const online = new Promise(resolve => { setImmediate(resolve) }).then(() => this.#online(users))
      this.#asking = { users, online }
    }
    const { users, online } = this.#asking
    users.add(user)
    return (await online).has(user)
  }

  async list (question: Question<Wanted, Count[]>, wanted: Wanted): Promise<Count[]> {
    const answers = await this.#survey.ask(question, wanted)
    this.#tell(question.name, answers.missing)
    return page(sumsOf(answers), wanted)
  }

  async #online (asked: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    if (this.#asking?.users === asked) this.#asking = undefined
    const { of, missing } = await this.#survey.ask(online, Array.from(asked))
    this.#tell(online.name, missing)
    return new Set(Array.from(of.values()).flat())
  }

  #tell (question: string, missing: readonly string[]): void {
    const instances = missing.toSorted().join(', ')
    if (instances === '' || !this.#told.isNew(instances, Date.now())) return
    const why = `without a reply from ${instances}, which has crashed, is overloaded or of another release`
    this.#observer.entry('survey.incomplete', { question, instances }, `Answers to ${question} are incomplete: ${why}`)
  }
}

/** What is on the page of all instances is on the page of each instance that has it: the sums are exact. */
function page (counts: Iterable<Count>, { prefix, limit, after }: Wanted): Count[] {
  const matching = Array.from(counts).filter(([name]) => name.startsWith(prefix) && name > after)
  return matching.toSorted(([a], [b]) => a < b ? -1 : 1).slice(0, limit)
}

function wantedOf (call: string, options: ListOptions = {}): Wanted {
  checkFields(`options of ${call}`, options, ['prefix', 'limit', 'after'])
  const { prefix = '', limit = DEFAULT_LIMIT, after = '' } = options
  if (typeof prefix !== 'string') throw new InvalidArgumentError('prefix', inspect(prefix), 'a string')
  if (typeof after !== 'string') throw new InvalidArgumentError('after', inspect(after), 'a string')
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new InvalidArgumentError('limit', inspect(limit), `a whole number from 1 to ${MAX_LIMIT}`)
  }
  return { prefix, limit, after }
}

export function directoryCalls (connections: Connections, hub: Hub, survey: Survey, observer: Observer): DirectoryCalls {
  const directory = new Directory(connections, hub, survey, observer)
  return {
    isOnline: guarded(observer, 'isOnline', user => directory.isOnline(checkUser(user))),
    users: guarded(observer, 'users', async options => {
      const found = await directory.list(users, wantedOf('users', options))
      return found.map(([user, connections]) => ({ user, connections }))
    }),
    channels: guarded(observer, 'channels', async options => {
      const found = await directory.list(channels, wantedOf('channels', options))
      return found.map(([channel, clients]) => ({ channel, clients }))
    })
  }
}
