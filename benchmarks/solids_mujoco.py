"""Scenes of solids that MuJoCo renders from meshes, with OSMesa: another renderer than the model's.
Needs ``pip install "mujoco<4"``, and Debian's libosmesa6."""

import os

os.environ.setdefault("MUJOCO_GL", "osmesa")

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Float, Int
from skimage.measure import marching_cubes

from airjax.three_d.renderer import AMBIENT, LIGHT, Camera
from airjax.three_d.shapes import Shape

FINER = 4  # pixels of a rendered image along a side, for one of the scene
GRID = 0.01  # side of the cells in which a mesh is made
HIDDEN = -50.0  # height of an object that is not in the scene
SCENE = """
<mujoco>
  <visual>
    <global offwidth="{size}" offheight="{size}"/>
    <quality offsamples="0" shadowsize="2048"/>
    <headlight ambient="{ambient} {ambient} {ambient}" diffuse="0 0 0" specular="0 0 0"/>
    <map znear="0.01" zfar="20"/>
  </visual>
  <asset>{meshes}</asset>
  <worldbody>
    <light directional="true" castshadow="{shadows}" pos="0 0 4" dir="{light}"
           ambient="0 0 0" diffuse="{diffuse} {diffuse} {diffuse}" specular="0 0 0"/>
    <geom type="box" size="1.25 1.25 0.02" pos="0 0 -0.02" rgba="0.63 0.58 0.52 1"/>
    <geom type="box" size="9 9 0.02" pos="0 0 -0.06" rgba="0.14 0.14 0.16 1"/>
    <camera name="seen" pos="{position}" xyaxes="{axes}" fovy="{fov}"/>
    {bodies}
  </worldbody>
</mujoco>
"""


class MujocoScenes:
    """Draws scenes; see the argument ``draw`` of `airjax.three_d.scenes.scenes`.

    Args:
        shapes: the kinds.
        most: objects in a scene.
        shadows: whether objects throw shadows, which the model has not.
        camera: that sees them.
    """

    def __init__(
        self,
        shapes: tuple[Shape, ...],
        most: int,
        shadows: bool = False,
        camera: Camera | None = None,
    ):
        self.shapes, self.most, self.camera = shapes, most, camera or Camera()
        size = FINER * self.camera.size
        bodies = [
            f'<body name="{t}_{k}" mocap="true"><geom type="mesh" mesh="{shape.name}" '
            f'rgba="{_text(shape.colour)} 1"/></body>'
            for t in range(most)
            for k, shape in enumerate(shapes)
        ]
        self.model = mujoco.MjModel.from_xml_string(
            SCENE.format(
                size=size,
                ambient=AMBIENT,
                diffuse=1 - AMBIENT,
                shadows=str(shadows).lower(),
                light=_text(-np.array(LIGHT)),
                meshes="".join(map(_mesh, shapes)),
                position=_text(self.camera.position),
                axes=_text(self.camera.axes[:2].ravel()),
                fov=self.camera.fov,
                bodies="".join(bodies),
            )
        )
        self.data = mujoco.MjData(self.model)
        self.renderer = mujoco.Renderer(self.model, size, size)

    def __call__(
        self,
        counts: Int[np.ndarray, " N"],
        kinds: Int[np.ndarray, "N T"],
        poses: Float[np.ndarray, "N T 3"],
    ) -> Float[np.ndarray, "N H W 3"]:
        """Images in [0, 1]."""
        return np.stack([self.one(*scene) for scene in zip(counts, kinds, poses, strict=True)])

    def one(self, count: int, kinds: np.ndarray, poses: np.ndarray) -> Float[np.ndarray, "H W 3"]:
        """The image of a scene: the mean of the rendered pixels in each of its own."""
        places = np.tile([0, 0, HIDDEN], (self.most, len(self.shapes), 1))
        turns = np.tile([1.0, 0, 0, 0], (self.most, len(self.shapes), 1))
        for t in range(count):
            x, y, angle = poses[t]
            places[t, kinds[t]] = x, y, self.shapes[kinds[t]].height
            turns[t, kinds[t]] = np.cos(angle / 2), 0, 0, np.sin(angle / 2)
        self.data.mocap_pos[:] = places.reshape(-1, 3)
        self.data.mocap_quat[:] = turns.reshape(-1, 4)
        mujoco.mj_forward(self.model, self.data)
        self.renderer.update_scene(self.data, camera="seen")
        pixels = self.renderer.render().astype(np.float32) / 255
        size = self.camera.size
        return pixels.reshape(size, FINER, size, FINER, 3).mean((1, 3))

    def close(self) -> None:
        """Frees OpenGL's context, of which a process has one at a time."""
        self.renderer.close()

    def table(self) -> Float[np.ndarray, "H W 3"]:
        """The empty table."""
        nothing = np.zeros((self.most, 3))
        return self.one(0, np.zeros(self.most, int), nothing)


def _mesh(shape: Shape) -> str:
    """A mesh of the shape's surface, as MuJoCo reads it."""
    reach = shape.radius + 3 * GRID
    ticks = np.arange(-reach, reach, GRID, dtype=np.float32)
    x, y, z = jnp.meshgrid(ticks, ticks, ticks, indexing="ij")
    distance = np.array(shape.distance((x, y, z)))
    vertices, faces, *_ = marching_cubes(distance, 0.0)  # counterclockwise, seen from outside
    vertices = ticks[0] + GRID * vertices
    return (
        f'<mesh name="{shape.name}" vertex="{_text(vertices.ravel())}" '
        f'face="{" ".join(map(str, faces.ravel()))}"/>'
    )


def _text(numbers) -> str:
    return " ".join(f"{x:.5g}" for x in numbers)
