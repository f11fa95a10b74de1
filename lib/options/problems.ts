import { InvalidOptionError, UnknownOptionError } from '../model/errors.ts'
import { likelyMeant } from '../model/spelling.ts'

/** One thing that is wrong with the options. */
interface Problem {
  readonly text: string
  /** Set for an unknown name: how the names that are known there are listed, and whether the text suggests one. */
  readonly unknown?: { readonly known: string, readonly suggested: boolean }
}

/** What each error of an option is about. */
const problemsOf = new WeakMap<object, readonly Problem[]>()

/** Collects what several checks find, so that one error names all of it. */
export class Problems {
  readonly #found: Problem[] = []

  /** Runs a check. What it finds wrong is kept; then the result is undefined. */
  attempt<T> (check: () => T): T | undefined {
    try {
      return check()
    } catch (error) {
      this.add(error)
      return undefined
    }
  }

  /** Keeps what a check has thrown. Anything else is thrown again. */
  add (error: unknown): void {
    const problems = problemsOf.get(error as object)
    if (problems === undefined) throw error
    this.#found.push(...problems)
  }

  /** @throws FST_CRWS_UNKNOWN_OPTION if names are unknown and nothing else is wrong, else FST_CRWS_INVALID_OPTION */
  throwIfAny (): void {
    if (this.#found.length > 0) throw errorOf(this.#found)
  }
}

/** The error for one value that is not allowed. `got` shows no secret. */
export function invalidOption (name: string, got: string, allowed: string): Error {
  return errorOf([{ text: `Invalid option "${name}": got ${got}, expected ${allowed}` }])
}

/** The error for an unknown name. `parent` is the name of the object that it is in, with a dot; '' at the top. */
export function unknownOption (parent: string, name: string, known: readonly string[]): Error {
  const meant = likelyMeant(name, known)
  const text = `Unknown option "${parent}${name}".${meant === undefined ? '' : ` Did you mean \`${parent}${meant}\`?`}`
  return errorOf([{ text, unknown: { known: `Known options: ${known.map(one => parent + one).join(', ')}`, suggested: meant !== undefined } }])
}

function errorOf (problems: readonly Problem[]): Error {
  const OptionError = problems.every(({ unknown }) => unknown) ? UnknownOptionError : InvalidOptionError
  const error = new OptionError(textOf(problems))
  problemsOf.set(error, problems)
  return error
}

/** Several are a list, in which a suggestion stands for the names that are known. */
function textOf (problems: readonly Problem[]): string {
  const [{ text, unknown }] = problems as [Problem]
  if (problems.length === 1) return unknown === undefined ? text : `${text} ${unknown.known}`
  const lines = problems.map(({ text, unknown }) => unknown === undefined || unknown.suggested ? text : `${text} ${unknown.known}`)
  return `${problems.length} options are wrong:\n${lines.map(line => `- ${line}`).join('\n')}`
}
