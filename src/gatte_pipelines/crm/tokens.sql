-- name: read_day
-- The budget is the last one that was named, on whatever day.
select
    coalesce(sum(t.spent) filter (where t.day = %(token_day)s), 0)::integer as spent,
    (array_agg(t.budget order by t.day desc))[1] as budget
from pipeline.crm_tokens as t;

-- name: store_day
insert into pipeline.crm_tokens as t (day, spent, budget, remaining, noted_at)
values (%(token_day)s, %(spent)s, %(budget)s, %(remaining)s, %(instant)s)
on conflict (day) do update
    set
        spent = greatest(t.spent, excluded.spent),
        budget = excluded.budget,
        remaining = coalesce(excluded.remaining, t.remaining),
        noted_at = excluded.noted_at;
