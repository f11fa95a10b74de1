/** Where a command writes: `process`, or what a test passes. Results go to stdout, all else to stderr. */
export interface Terminal {
  readonly stdout: { write (text: string): unknown, readonly isTTY?: boolean | undefined }
  readonly stderr: { write (text: string): unknown, readonly isTTY?: boolean | undefined }
}

/** A command of the command line. Resolves to the exit code. @throws UsageError */
export type Command = (args: readonly string[], terminal: Terminal) => Promise<number>

/** Wrong arguments: what was wrong, and what is allowed. The program prints the message and exits with 2. */
export class UsageError extends Error {}
