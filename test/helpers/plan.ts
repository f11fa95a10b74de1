import { plan } from '../../lib/cli/plan/command.ts'
import { parseOptions } from '../../lib/cli/plan/options.ts'
import { makePlan } from '../../lib/cli/plan/plan.ts'
import type { Plan } from '../../lib/cli/plan/plan.ts'
import type { PlatformId } from '../../lib/cli/plan/platforms.ts'
import { Prices } from '../../lib/cli/plan/prices.ts'
import type { Override } from '../../lib/cli/plan/prices.ts'

/** What the command writes, and its exit code. */
export async function runPlan (...args: string[]): Promise<{ code: number, stdout: string, stderr: string }> {
  const written = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof written) => ({ write (text: string) { written[name] += text } })
  const code = await plan(args, { stdout: stream('stdout'), stderr: stream('stderr') })
  return { code, ...written }
}

/** The plan of such arguments, in one string. */
export function planOf (args = '', override?: Override): Plan {
  const { input } = parseOptions(args.split(' ').filter(arg => arg !== ''))
  return makePlan(input, new Prices(input.region, override))
}

export const platform = (made: Plan, id: PlatformId = 'cloud-run') => made.platforms.find(platform => platform.id === id)!

/** Dollars a month. */
export const month = (made: Plan, part: string, id?: PlatformId) => platform(made, id).parts.find(({ name }) => name === part)?.month
