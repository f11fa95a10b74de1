import { UsageError } from './command.ts'
import type { Command, Terminal } from './command.ts'

/** Imported when they are used. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  plan: async () => (await import('./plan/command.ts')).plan,
  load: async () => (await import('./load/command.ts')).load
}

const USAGE = `Usage: fastify-cloud-run-websocket COMMAND [options]

  plan   calculates what a service needs and costs on Cloud Run, GKE and App Engine
  load   connects clients to your service, and measures what arrives

Use COMMAND --help for the options of a command.
`

/** Runs a command. Resolves to the exit code: 0, or 1 if it failed, or 2 for wrong arguments. */
export async function run ([name, ...args]: readonly string[], terminal: Terminal): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h') {
    const { stdout, stderr } = terminal
    ;(name === undefined ? stderr : stdout).write(USAGE)
    return name === undefined ? 2 : 0
  }
  try {
    if (!Object.hasOwn(commands, name)) throw new UsageError(`unknown command ${name}. The commands are ${Object.keys(commands).join(' and ')}`)
    return await (await commands[name]!())(args, terminal)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    terminal.stderr.write(`fastify-cloud-run-websocket: ${error.message}\n`)
    return 2
  }
}
