/** The path of a program the tests need, or undefined when this machine has none. */
export function findProgram (name: string): string | undefined
