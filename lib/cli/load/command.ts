import type { Command } from '../command.ts'

export const load: Command = async () => 0
