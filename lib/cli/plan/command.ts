import type { Command } from '../command.ts'

export const plan: Command = async () => 0
