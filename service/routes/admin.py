"""The operator's routes, all under ``/admin``: only keys with the scope ``admin`` get there."""

from fastapi import APIRouter

from service.routes import audit, explain, keys, learning, rollout, updates, versions

router = APIRouter(prefix="/admin")
for part in (versions, rollout, updates, learning, audit, explain, keys):
    router.include_router(part.router)
