/** The names of what a run has two or one of. */
export const REGIONS = ['east', 'west'] as const;
export type Region = (typeof REGIONS)[number];
export const COORDINATOR = 'coordinator';
