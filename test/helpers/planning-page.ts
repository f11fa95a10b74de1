import { readFileSync } from 'node:fs'

/** The commands of docs/planning.md, each with what it says the command prints, if it does. */
export function docsCommands (): { args: string, output: string | undefined }[] {
  const page = readFileSync(new URL('../../docs/planning.md', import.meta.url), 'utf8')
  const blocks = page.matchAll(/^```sh\nnpx fastify-cloud-run-websocket plan ?([^\n]*)\n```\n(?:\n```text\n([^]*?)```\n)?/gm)
  return Array.from(blocks, ([, args, output]) => ({ args: args!, output }))
}
