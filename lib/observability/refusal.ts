/** Log entries about a command of a client, or a token of an SDK client, that was refused. */
export type RefusalEvent = 'command.refused' | 'token.refused'

/** Why a command of a client was refused. */
export interface Refusal {
  readonly command: string
  readonly channel: string | undefined
  /** That of an rpc. */
  readonly method: string | undefined
  /** Code of the error reply, or of the close. */
  readonly code: number
  /** For who runs the service: the client sees none of it. It has nothing of the token. */
  readonly reason: string
}

export function textOf (event: RefusalEvent, { command, code, reason }: Refusal): string {
  const what = event === 'token.refused' ? 'Token of an SDK client refused' : `Command ${command} of a client refused`
  return `${what} with ${code}: ${reason}`
}
