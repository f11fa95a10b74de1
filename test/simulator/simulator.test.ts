import t from 'tap'
import type { Test } from 'tap'
import { publishWithHistory, readHistory } from '../../lib/backends/redis/scripts.ts'
import { Channel } from '../../lib/hub/channel.ts'
import { Subscription } from '../../lib/hub/subscription.ts'
import { failureOf, simulate } from './simulation.ts'
import type { World } from './simulation.ts'

// SEED=123 runs one schedule and shows what each client saw; SEEDS=5000 runs more of them than usual. WORLD: which of
// the worlds in simulation.ts.
const { SEED, SEEDS = '600', WORLD = 'usual' } = process.env
/** ms: a busy machine may take its time. */
const TIMEOUT = 600_000
/** Schedules within which a broken plugin must be found. */
const ENOUGH = 200

t.setTimeout(TIMEOUT)

const promises = {
  usual: 'whatever happens, what was acknowledged arrives once and in order, or the client is told',
  goingBack: 'the same where Redis goes back in time'
} as const

for (const [world, promise] of Object.entries(promises) as Array<[World, string]>) {
  t.test(promise, { skip: SEED !== undefined, timeout: TIMEOUT }, async (t) => {
    const failures = await failing(Number(SEEDS), Infinity, world)
    for (const failure of failures.slice(0, 3)) t.comment(failure)
    t.equal(failures.length, 0, `of ${SEEDS} schedules`)
  })
}

t.test('one schedule', { skip: SEED === undefined }, async (t) => {
  const outcome = await simulate(Number(SEED), WORLD as World)
  for (const [client, log] of outcome.logs) t.comment(client, log.map(entry => JSON.stringify(entry)).join('\n'))
  t.equal(failureOf(outcome), undefined)
})

t.test('the same seed gives the same run', async (t) => {
  const [first, second] = [await simulate(7), await simulate(7)]
  t.strictSame(second.schedule, first.schedule)
  t.strictSame(second.counts, first.counts)
  t.ok(first.counts.delivered > 0)
})

/** Breaks the plugin in one way. */
const mutants: Record<string, (t: Test) => void> = {
  'nobody is told of a gap': t => { t.intercept(Channel.prototype, 'positionLost', { value: () => {} }) },
  'everybody is told that nothing is missing': t => {
    const { admit } = Subscription.prototype
    t.intercept(Subscription.prototype, 'admit', {
      value (this: Subscription) {
        const recovery = admit.call(this)
        return recovery && this.since !== undefined ? { ...recovery, recovered: true } : recovery
      }
    })
  },
  'what was recovered is sent again': t => { t.intercept(Subscription.prototype, 'hasAlready', { value: () => false }) },
  'a history that replaces another one has its epoch': t => {
    for (const script of [publishWithHistory, readHistory]) {
      t.intercept(script, 'text', { value: script.text.replaceAll('epoch = freshEpoch', "epoch = 'same'") })
    }
  }
}

for (const [name, breakPlugin] of Object.entries(mutants)) {
  t.test(`a plugin in which ${name} is found out`, async (t) => {
    breakPlugin(t)
    t.match(await failing(ENOUGH, 1), [/^seed \d+: .*\n(.*\n)+to run it again: WORLD=usual SEED=\d+ npx tap /])
  })
}

/** Runs schedules until so many have failed. */
async function failing (seeds: number, enough = Infinity, world: World = 'usual'): Promise<string[]> {
  const failures: string[] = []
  for (let seed = 1; seed <= seeds && failures.length < enough; seed++) {
    const failure = failureOf(await simulate(seed, world))
    if (failure !== undefined) failures.push(failure)
  }
  return failures
}
