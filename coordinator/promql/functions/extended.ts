/** Which functions know the windows of `anchored` and `smoothed` selectors. */
import { QueryError } from '../error.ts';

const ALLOWED = {
  anchored: ['changes', 'delta', 'increase', 'rate', 'resets'],
  smoothed: ['delta', 'increase', 'rate'],
} as const;

/** Throws when the function does not know such windows. */
export function checkExtent(extent: 'anchored' | 'smoothed', name: string): void {
  const allowed: readonly string[] = ALLOWED[extent];
  if (!allowed.includes(name)) {
    throw new QueryError(
      'execution',
      `${extent} modifier can only be used with: ${allowed.join(', ')} - not with ${name}`,
    );
  }
}
