/** Structured log lines (pino), one JSON object a line on standard output. Messages are facts; values are fields. */
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** @param name of the process, in every line  @param level debug, info, warn or error */
export function createLogger(name: string, level: string): Logger {
  return pino({ name, level, base: { name }, timestamp: pino.stdTimeFunctions.isoTime });
}
